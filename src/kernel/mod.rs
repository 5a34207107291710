//! Our own device operations: [`mix()`] executes mixture plans, [`ingest()`] turns bytes into normalised images, and [`ingest::ingest_mix`]
//! does both in one pass over memory. [`scores`] compares features with drawn rows of a memory bank.
//!
//! Each operation has a slow, obvious reference, a portable tensor form, and direct implementations for the CPU (`flex`), for WGSL
//! and for CubeCL. They are one Backend extension ([`ops`]). The device chooses the path (`device.rs`); an operation executes the path it is
//! given or panics, it never takes another.

pub mod choice;
pub mod ingest;
pub mod inputs;
pub mod mix;
pub mod ops;
pub mod path;
pub mod scores;

#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod gpu;
mod host;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub mod shader;

pub use choice::{Choice, Kernels, KernelsConfig};
pub use ingest::{ByteLayout, Ingest, ingest, ingest_mix};
pub use mix::{StageJob, mix};
pub use path::{KernelPath, Op, poison_outputs, runs};
