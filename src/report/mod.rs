//! The report: what a run left in its folder, as a page of figures and tables. It reads files and nothing else.

pub mod page;
pub mod plot;
pub mod run;
