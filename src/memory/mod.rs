//! Memories of negatives. Passive: a loss reads them, the method writes them after the update.

pub mod bank;
pub mod queue;

pub use bank::Bank;
pub use queue::Queue;
