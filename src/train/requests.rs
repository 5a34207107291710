//! What a person or a scheduler asks of a run while it trains.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// Requests, set by signals or by another thread; the run looks at them after every step.
#[derive(Debug, Default)]
pub struct Requests {
    /// End after this step, with a checkpoint.
    pub stop: AtomicBool,
    /// Save after this step and go on.
    pub save: AtomicBool,
}

impl Requests {
    /// Nothing is asked for.
    pub const fn new() -> Self {
        Self { stop: AtomicBool::new(false), save: AtomicBool::new(false) }
    }

    /// Whether the run is to end.
    pub fn stops(&self) -> bool {
        self.stop.load(SeqCst)
    }

    /// Whether the run is to be saved; asked once, answered once.
    pub(super) fn take_save(&self) -> bool {
        self.save.swap(false, SeqCst)
    }
}
