//! Training: a loop that knows no method, the run's folder, its events and checkpoints.
//!
//! One step: [`jobs`] says what to load and mix, the loader makes the bytes, [`upload`] turns them into images on the device, [`step`] drives the
//! method and the optimizer, the sinks hear of it, and perhaps a checkpoint is written. A session is put together in `open`, where `identity` says whether a
//! resume is still the same run, begins in `start`, goes round in [`run`], looks at the encoder in `monitor`, is kept by `save` and ends in `finish`; [`meter`]
//! has all its clocks.

pub mod checkpoint;
pub mod events;
mod finish;
mod identity;
pub mod jobs;
pub mod meter;
mod monitor;
mod open;
pub mod preview;
mod requests;
pub mod run;
pub mod run_dir;
mod save;
pub mod sinks;
mod start;
pub mod step;
pub mod summary;
pub mod trial;
pub mod upload;

pub use checkpoint::{Checkpoint, State};
pub use events::{Event, Sink, Sinks};
pub use identity::Identity;
pub use open::Opening;
pub use requests::Requests;
pub use run::{Ended, Said, Session};
pub use run_dir::RunDir;
pub use summary::{Knn, Summary};
