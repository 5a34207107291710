//! Updates of the weights: schedules as pure functions of the step, and SGD with explicit state.

pub mod schedule;
pub mod sgd;

pub use schedule::ScheduleConfig;
pub use sgd::{Sgd, SgdConfig};
