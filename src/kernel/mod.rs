//! Our own device operations: [`mix()`] executes mixture plans, [`ingest()`] turns bytes into normalised images, and [`ingest::ingest_mix`]
//! does both in one pass over memory. [`bank`] compares features with drawn rows of a memory bank, [`net`] computes the blocks of the nets, [`rows`] are what losses do
//! with embeddings, and [`update`] moves the nets' parameters.
//!
//! An operation is a folder and a row of the table in [`registry`]. It has a slow, obvious reference, a portable tensor form, and direct
//! implementations for the CPU (`flex`), for WGSL and for CubeCL; its `ops.rs` is a Backend extension of its own. What the kernels of one
//! backend share is in [`backend`]. The device chooses the path ([`choice`]); an operation executes the path it is given or panics, it
//! never takes another.

pub mod backend;
pub mod bank;
pub mod choice;
pub mod ingest;
pub mod inputs;
pub mod mix;
pub mod net;
pub mod path;
pub mod registry;
pub mod rows;
pub mod update;

pub use choice::{Choice, Kernels, KernelsConfig};
pub use ingest::{ByteLayout, Ingest, ingest, ingest_mix};
pub use mix::{StageJob, mix};
pub use path::{KernelPath, poison_outputs, runs};
pub use registry::Op;
