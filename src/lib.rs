//! unmix pre-trains image encoders without labels by contrastive learning, with image mixtures as first-class citizens
//! (arXiv 2003.05438: "IM", its first version, and "Un-Mix", its later ones).
//!
//! # Data flow: one arrow, one room, one type
//! ```text
//! bytes on disk -> data::Source     Encoded
//!   -> data::decode                 RgbImage u8 [H0, W0, 3]      decoded once, used for all views
//!   -> augment                      u8 [3, H, W] per view        parameters from rng(seed, epoch, index, view)
//!   -> data::Loader                 Batch, in order              T = N own images + M partners
//! host: mixture::Policy             MixturePlan                  rng(seed, epoch, step | index)
//!   -> kernel::ingest, kernel::mix  f32 [N, 3, H, W]             on the device, never differentiated
//!   -> method                       loss and named parts         loss, memory, model
//!   -> optim                        the next weights
//!   -> train                        events, checkpoint
//! ```
//! The host decides and the device does: every random draw is made on the host from counter-based streams ([`rng`]) and becomes plain
//! data. A run is therefore a pure function of its config, and a resume needs only the position.

#![warn(missing_docs)]
// Burn's types nest deeply with the wgpu backend (tracel-ai/burn#3060).
#![recursion_limit = "256"]

pub mod augment;
pub mod check;
pub mod cli;
pub mod colour;
pub mod config;
pub mod data;
pub mod device;
pub mod error;
pub mod eval;
pub mod files;
mod json;
pub mod kernel;
pub mod loss;
pub mod memory;
pub mod method;
pub mod mixture;
pub mod model;
pub mod optim;
pub mod pickle;
pub mod report;
pub mod rng;
pub mod sheet;
mod simd;
mod time;
pub mod train;
pub mod unread;
