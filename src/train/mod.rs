//! Training: a loop that knows no method, the run's folder, its events and checkpoints.
//!
//! One step: [`jobs`] says what to load and mix, the loader makes the bytes, [`upload`] turns them into images on the device, the
//! method computes, the optimizer updates, the method follows up, the sinks hear of it, and perhaps a checkpoint is written.

pub mod checkpoint;
pub mod events;
pub mod jobs;
pub mod preview;
pub mod run;
pub mod run_dir;
pub mod sinks;
pub mod summary;
pub mod upload;

pub use checkpoint::{Checkpoint, State};
pub use events::{Event, Sink, Sinks};
pub use run::{Ended, Session};
pub use run_dir::RunDir;
pub use summary::{Knn, Summary};
