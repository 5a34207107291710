//! Pictures of a run: the contact sheet of its first batch, and the report.

pub mod page;
pub mod plot;
pub mod preview;
pub mod run;
pub mod sheet;
