//! The order of an epoch: a pure function of the seed and of the epoch's number.

use crate::rng::{Purpose, Stream};

/// The permutation of `0..n` in which epoch `epoch` visits the data set. `n` is at most `u32::MAX`.
pub fn epoch_order(seed: u64, epoch: u64, n: usize) -> Vec<u32> {
    Stream::new(seed, Purpose::Order, &[epoch]).permutation(n)
}

/// Batches per epoch of `n` images; the last, smaller batch counts unless `drop_last`. `batch` > 0.
pub fn steps_per_epoch(n: usize, batch: usize, drop_last: bool) -> usize {
    if drop_last { n / batch } else { n.div_ceil(batch) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_depends_on_seed_and_epoch_alone() {
        let order = epoch_order(3, 5, 1000);
        epoch_order(9, 1, 77);
        assert_eq!(order, epoch_order(3, 5, 1000));
        assert_ne!(order, epoch_order(4, 5, 1000));
        assert_ne!(order, epoch_order(3, 6, 1000));
        let mut sorted = order;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<u32>>());
    }

    #[test]
    fn the_partial_batch_counts_unless_dropped() {
        assert_eq!((steps_per_epoch(10, 4, true), steps_per_epoch(10, 4, false)), (2, 3));
        assert_eq!((steps_per_epoch(8, 4, true), steps_per_epoch(8, 4, false)), (2, 2));
        assert_eq!((steps_per_epoch(3, 4, true), steps_per_epoch(3, 4, false)), (0, 1));
    }
}
