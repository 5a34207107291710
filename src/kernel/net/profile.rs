//! Where the time of blocks goes, by kind of work: for `unmix bench step --profile`.
//!
//! Each kind is timed around all its threads, on the thread that started it, so that the seconds of all kinds and of the rest add up.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// A kind of work inside a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Convolutions, with what brings their weights into order.
    Forward,
    /// Gradients of convolutions with respect to their inputs.
    InputGradient,
    /// Gradients of convolutions with respect to their weights.
    WeightGradient,
    /// Norms with the shortcuts and ReLUs behind them, forwards and backwards.
    Norm,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Forward, Self::InputGradient, Self::WeightGradient, Self::Norm];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "convolution",
            Self::InputGradient => "input gradient",
            Self::WeightGradient => "weight gradient",
            Self::Norm => "norm, shortcut, relu",
        }
    }
}

static WATCHED: AtomicBool = AtomicBool::new(false);
static NANOSECONDS: [AtomicU64; Kind::ALL.len()] = [const { AtomicU64::new(0) }; Kind::ALL.len()];

/// From now on times are taken, or not any more.
pub fn watch(on: bool) {
    WATCHED.store(on, Relaxed);
}

/// The seconds of each kind since the last call.
pub fn take() -> [(Kind, f64); Kind::ALL.len()] {
    Kind::ALL.map(|kind| (kind, NANOSECONDS[kind as usize].swap(0, Relaxed) as f64 / 1e9))
}

/// Does `work`, and counts its time if somebody watches.
pub fn timed<T>(kind: Kind, work: impl FnOnce() -> T) -> T {
    if !WATCHED.load(Relaxed) {
        return work();
    }
    let start = Instant::now();
    let out = work();
    NANOSECONDS[kind as usize].fetch_add(start.elapsed().as_nanos() as u64, Relaxed);
    out
}
