//! Pictures of a run.

pub mod preview;
pub mod sheet;
