//! Updates of parameters on every path, against plain f64 loops.

use burn::tensor::{Tensor, TensorData};

use super::{Tally, common};
use crate::device::Opened;
use crate::kernel::choice::paths;
use crate::kernel::update::{self, SgdStep};
use crate::kernel::{KernelPath, Op};
use crate::rng::{Purpose, Stream};

/// A value of about 1 errs by a rounding of each of its at most four operations, 6e-8 each; an update may be contracted or not.
const ALLOWED: f64 = 4e-7;
/// One value, an odd number, what one task takes, and more than that.
const SIZES: [usize; 4] = [1, 37, 1 << 14, 40_001];

fn normal(count: usize, stream: u64) -> Vec<f32> {
    let mut draw = Stream::new(7, Purpose::Synthetic, &[stream]);
    (0..count).map(|_| draw.normal() as f32).collect()
}

fn assert_close(what: &str, got: Tensor<1>, want: impl Iterator<Item = f64>) {
    for (i, (got, want)) in common::values(got).into_iter().zip(want).enumerate() {
        let off = (f64::from(got) - want).abs();
        assert!(off <= ALLOWED * want.abs().max(1.0), "{what}[{i}] is {got}, want {want}, off by {off:e}");
    }
}

/// SGD with and without an old velocity and decay, the moving average, and the sum of squares. The tensors that go in stay as they are where
/// somebody else holds them.
pub fn every_path_moves_parameters_as_the_loops_do(opened: &Opened, tally: &mut Tally) {
    for path in paths(Op::Update, &opened.info.compiler) {
        for count in SIZES {
            tally.case(&format!("{count} values, path {}", path.name()), || check(opened, count, path));
        }
    }
}

fn check(opened: &Opened, count: usize, path: KernelPath) {
    let values = [0, 1, 2].map(|stream| normal(count, stream + 3 * count as u64));
    let tensors =
        || values.each_ref().map(|values| Tensor::<1>::from_data(TensorData::new(values.clone(), [count]), &opened.device));
    let [w, g, v] = values.each_ref().map(|values| move |i: usize| f64::from(values[i]));
    for weight_decay in [0.0, 1e-2] {
        for first in [true, false] {
            let step = SgdStep { lr: 0.3, momentum: 0.9, weight_decay };
            let [weight, gradient, velocity] = tensors();
            let held = weight.clone();
            let old = (!first).then_some(velocity);
            let (next, moved) = common::asserting_path(Op::Update, path, || update::sgd(weight, gradient, old, step, path));
            let velocity = |i: usize| (if first { 0.0 } else { 0.9 * v(i) }) + g(i) + weight_decay * w(i);
            assert_close("velocity", moved, (0..count).map(velocity));
            assert_close("weight", next, (0..count).map(|i| w(i) - 0.3 * velocity(i)));
            assert_eq!(common::values(held), values[0], "a weight that somebody else holds");
        }
    }
    let [slow, fast, _] = tensors();
    let next = common::asserting_path(Op::Update, path, || update::average(slow, fast, 0.99, path));
    assert_close("average", next, (0..count).map(|i| 0.99 * w(i) + 0.01 * g(i)));
    let [squared, ..] = tensors();
    let sum = f64::from(common::values(update::square_sum(squared, path))[0]);
    let want: f64 = (0..count).map(|i| w(i) * w(i)).sum();
    // All terms are positive: the error is relative to the sum, and grows with the root of the number of terms at most.
    assert!((sum - want).abs() <= 6e-8 * (4.0 + (count as f64).sqrt()) * want, "sum of squares {sum}, want {want}");
}
