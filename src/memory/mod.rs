//! Memories of negatives. Passive: a loss reads them, the method writes them after the update.

pub mod queue;

pub use queue::Queue;
