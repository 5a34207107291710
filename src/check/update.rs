//! Updates of parameters on every path, against plain f64 loops.

use burn::tensor::{Tensor, TensorData};

use super::{Tally, common};
use crate::device::Opened;
use crate::kernel::choice::paths;
use crate::kernel::update::{self, Moved, SgdStep};
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

/// SGD with and without an old velocity, decay and Nesterov's form, moving averages, and the sum of squares, of one tensor and of many of all sizes. The tensors
/// that go in stay as they are where somebody else holds them.
pub fn every_path_moves_parameters_as_the_loops_do(opened: &Opened, tally: &mut Tally) {
    // More tensors than a launch takes, so that each size stands at several places of one.
    let many: Vec<usize> = (0..37).map(|at| SIZES[at % SIZES.len()] + at / 5).collect();
    for path in paths(Op::Update, &opened.info.compiler) {
        for counts in SIZES.map(|count| vec![count]).into_iter().chain([many.clone()]) {
            tally.case(&format!("{} tensors from {} values on, path {}", counts.len(), counts[0], path.name()), || {
                check(opened, &counts, path);
            });
        }
    }
}

/// Host copies of a parameter: value, gradient and velocity.
type Host = [Vec<f32>; 3];

fn check(opened: &Opened, counts: &[usize], path: KernelPath) {
    let host = |(at, count): (usize, &usize)| [0, 1, 2].map(|stream| normal(*count, (stream + 3 * at) as u64));
    let all: Vec<Host> = counts.iter().enumerate().map(host).collect();
    let tensor = |values: &[f32]| Tensor::<1>::from_data(TensorData::new(values.to_vec(), [values.len()]), &opened.device);
    let wide = |values: &[f32], i: usize| f64::from(values[i]);

    // Rates, decay and first steps differ from tensor to tensor.
    for (shift, nesterov) in (0..4).flat_map(|shift| [(shift, false), (shift, true)]) {
        let rate = |at: usize| if at.is_multiple_of(3) { 0.3 } else { 0.05 };
        let decay = |at: usize| if (at + shift) & 1 == 0 { 0.0 } else { 1e-2 };
        let first = |at: usize| (at + shift) & 2 == 0;
        let moved = |(at, [weight, gradient, velocity]): (usize, &Host)| Moved {
            weight: tensor(weight),
            gradient: tensor(gradient),
            velocity: (!first(at)).then(|| tensor(velocity)),
            lr: rate(at),
            weight_decay: decay(at),
        };
        let moved: Vec<Moved> = all.iter().enumerate().map(moved).collect();
        let held: Vec<[Tensor<1>; 2]> = moved.iter().map(|one| [one.weight.clone(), one.gradient.clone()]).collect();
        let step = SgdStep { momentum: 0.9, nesterov };
        let next = common::asserting_path(Op::Update, path, || update::sgd(moved, step, path));
        assert_eq!(next.len(), all.len());
        for (at, ((weight, velocity), [w, g, v])) in next.into_iter().zip(&all).enumerate() {
            let decayed = |i: usize| wide(g, i) + decay(at) * wide(w, i);
            let wanted = |i: usize| (if first(at) { 0.0 } else { 0.9 * wide(v, i) }) + decayed(i);
            let direction = |i: usize| if nesterov { decayed(i) + 0.9 * wanted(i) } else { wanted(i) };
            assert_close(&format!("velocity {at}"), velocity, (0..w.len()).map(wanted));
            assert_close(&format!("weight {at}"), weight, (0..w.len()).map(|i| wide(w, i) - rate(at) * direction(i)));
        }
        for ([weight, gradient], [w, g, _]) in held.into_iter().zip(&all) {
            assert_eq!(common::values(weight), *w, "a weight that somebody else holds");
            assert_eq!(common::values(gradient), *g, "a gradient");
        }
    }

    let pairs = all.iter().map(|[slow, fast, _]| (tensor(slow), tensor(fast))).collect();
    let next = common::asserting_path(Op::Update, path, || update::average(pairs, 0.99, path));
    assert_eq!(next.len(), all.len());
    for (at, (next, [w, g, _])) in next.into_iter().zip(&all).enumerate() {
        assert_close(&format!("average {at}"), next, (0..w.len()).map(|i| 0.99 * wide(w, i) + 0.01 * wide(g, i)));
    }

    let sum = f64::from(common::values(update::square_sum(all.iter().map(|[w, ..]| tensor(w)).collect(), path))[0]);
    let want: f64 = all.iter().flat_map(|[w, ..]| w).map(|w| f64::from(*w).powi(2)).sum();
    let count: usize = counts.iter().sum();
    // All terms are positive: the error is relative to the sum, and grows with the root of the number of terms at most.
    assert!((sum - want).abs() <= 6e-8 * (4.0 + (count as f64).sqrt()) * want, "sum of squares {sum}, want {want}");
}
