//! Golden numbers from an independent oracle in NumPy and PyTorch, one file here per stem of `tests/fixtures`.

pub mod augment;
mod bank;
pub mod bbox;
pub mod colour;
pub mod encoder;
pub mod knn;
pub mod losses;
pub mod mixture;
pub mod mixture_zoo;
pub mod norm;
pub mod optim;
pub mod pair;
pub mod schedule;
pub mod trace;
