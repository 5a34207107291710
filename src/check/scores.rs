//! Scores of features against drawn rows of a bank, their sums and the gradients of both: every path of a device against plain loops, and that
//! path's start counted, backwards too.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::{Tally, common};
use crate::device::Opened;
use crate::kernel::choice::paths;
use crate::kernel::{KernelPath, Op, bank, poison_outputs, runs};
use crate::rng::{Purpose, Stream};

/// Features b, drawn rows r, width d, rows n of the bank: odd sizes, sizes of 1, as many rows as the CubeCL kernel sums parts (64), fewer and
/// more, more than a tile or a task holds.
const SHAPES: [[usize; 4]; 11] = [
    [1, 1, 1, 1],
    [3, 5, 7, 2],
    [5, 1, 12, 9],
    [2, 64, 16, 9],
    [2, 65, 16, 9],
    [2, 1025, 128, 50],
    [7, 3000, 33, 11],
    [1, 300, 4, 1000],
    [3, 70_001, 8, 5],
    [5, 400, 128, 5000],
    [5, 400, 128, 5000],
];

/// One set of inputs; `rows` are numbers of rows of `bank`.
struct Case {
    size: [usize; 4],
    features: Vec<f32>,
    bank: Vec<f32>,
    weights: Vec<f32>,
    rows: Vec<i32>,
}

impl Case {
    fn draw(case: u64, size: [usize; 4]) -> Self {
        let [b, r, d, n] = size;
        let mut draw = Stream::new(3, Purpose::Synthetic, &[case]);
        let mut floats = |count: usize| (0..count).map(|_| draw.range(-1.0, 1.0) as f32).collect();
        let (features, bank, weights) = (floats(b * d), floats(n * d), floats(b * r));
        let mut rows: Vec<i32> = (0..b * r).map(|_| draw.below(n as u64) as i32).collect();
        // Sorted behind the first, as the methods draw them, and in any order.
        if case.is_multiple_of(2) {
            rows.chunks_mut(r).for_each(|rows| rows[1..].sort_unstable());
        }
        Self { size, features, bank, weights, rows }
    }

    fn row(&self, i: usize, k: usize) -> &[f32] {
        let [_, r, d, _] = self.size;
        &self.bank[self.rows[i * r + k] as usize * d..][..d]
    }

    /// `bank[rows[i, k]] . features[i]`, in f64.
    fn dots(&self) -> Vec<f64> {
        let [b, r, d, _] = self.size;
        let dot = |i: usize, k: usize| {
            let products = self.row(i, k).iter().zip(&self.features[i * d..]).map(|(a, b)| f64::from(*a) * f64::from(*b));
            products.sum()
        };
        (0..b).flat_map(|i| (0..r).map(move |k| dot(i, k))).collect()
    }

    /// `sum_k weights[i, k] bank[rows[i, k]]`, in f64.
    fn sums(&self) -> Vec<f64> {
        let [b, r, d, _] = self.size;
        let mut out = vec![0.0; b * d];
        for i in 0..b {
            for k in 0..r {
                let weight = f64::from(self.weights[i * r + k]);
                out[i * d..].iter_mut().zip(self.row(i, k)).for_each(|(sum, value)| *sum += weight * f64::from(*value));
            }
        }
        out
    }

    /// Features, bank and weights on a device.
    fn tensors(&self, device: &Device) -> [Tensor<2>; 3] {
        let [b, r, d, n] = self.size;
        let tensor = |values: &[f32], dims: [usize; 2]| Tensor::from_data(TensorData::new(values.to_vec(), dims), device);
        [tensor(&self.features, [b, d]), tensor(&self.bank, [n, d]), tensor(&self.weights, [b, r])]
    }

    fn rows(&self, device: &Device) -> Tensor<2, Int> {
        bank::rows(self.rows.clone(), [self.size[0], self.size[1]], device)
    }
}

/// Calls `body` with every shape and its dots and sums, on every path; each is a case. Outputs are poisoned.
fn on_every_path(opened: &Opened, tally: &mut Tally, body: impl Fn(&Case, [&[f64]; 2], &Device, KernelPath, &str)) {
    poison_outputs(true);
    for (case, size) in (0..).zip(SHAPES) {
        let case = Case::draw(case, size);
        let (dots, sums) = (case.dots(), case.sums());
        for path in paths(Op::Bank, &opened.info.compiler) {
            let at = format!("{} on {}, [b, r, d, n] {size:?}", path.name(), opened.info.name);
            tally.case(&at, || body(&case, [&dots, &sums], &opened.device, path, &at));
        }
    }
}

/// Products of values below 1 with random signs: partial sums of m of them stay near sqrt(m) / 3, so each addition rounds by about
/// u sqrt(m) / 3, and m independent roundings add up to u m / 3. Allowed is three times that, at least 2 u for a single product.
fn bound(m: usize) -> f64 {
    (6e-8 * m as f64).max(1.2e-7)
}

/// Scores and sums.
pub fn every_path_gives_the_scores_and_sums_of_the_loops(opened: &Opened, tally: &mut Tally) {
    on_every_path(opened, tally, |case, [dots, sums], device, path, at| {
        let [features, bank, weights] = case.tensors(device);
        let [_, r, d, _] = case.size;
        let got = common::asserting_path(Op::Bank, path, || bank::dots(features, bank.clone(), case.rows(device), path));
        close(&format!("dots, {at}"), &common::values(got), dots, bound(d));
        let got = common::asserting_path(Op::Bank, path, || bank::pull(weights, bank, case.rows(device), path));
        close(&format!("pull, {at}"), &common::values(got), sums, bound(r));
    });
}

/// With a linear loss the gradients are known from the loops: that of `sum(weights dots)` is `sums` for the features, that of
/// `sum(features pull)` is `dots` for the weights. The backward pass starts the path of the forward pass, once, and no other.
pub fn every_path_has_the_gradient_of_the_loops(opened: &Opened, tally: &mut Tally) {
    on_every_path(opened, tally, |case, [dots, sums], device, path, at| {
        let [features, bank, weights] = case.tensors(device);
        let [_, r, d, _] = case.size;
        let total = |product: Tensor<2>| product.sum_dim(1).sum_dim(0).reshape([1]);
        let backward = |loss: Tensor<1>| {
            let before = runs(Op::Bank, path);
            let gradients = common::asserting_path(Op::Bank, path, || loss.backward());
            assert_eq!(runs(Op::Bank, path) - before, 1, "{at}");
            gradients
        };
        let leaf = features.clone().autodiff().require_grad();
        let scored = bank::dots(leaf.clone(), bank.clone(), case.rows(device), path);
        close(&format!("dots on a graph, {at}"), &common::values(scored.clone()), dots, bound(d));
        let gradients = backward(total(scored * weights.clone()));
        close(&format!("gradient of dots, {at}"), &common::values(leaf.grad(&gradients).unwrap()), sums, bound(r));
        let leaf = weights.autodiff().require_grad();
        let pulled = bank::pull(leaf.clone(), bank, case.rows(device), path);
        close(&format!("pull on a graph, {at}"), &common::values(pulled.clone()), sums, bound(r));
        let gradients = backward(total(pulled * features));
        close(&format!("gradient of pull, {at}"), &common::values(leaf.grad(&gradients).unwrap()), dots, bound(d));
    });
}

/// Features that are no leaf and no parameter: a graph without anything to train is not kept, and nothing runs backwards.
pub fn untracked_features_have_no_backward_pass(opened: &Opened, tally: &mut Tally) {
    on_every_path(opened, tally, |case, [dots, _], device, path, at| {
        let [features, bank, _] = case.tensors(device);
        let scored = bank::dots(features.autodiff(), bank, case.rows(device), path);
        assert!(!scored.is_tracked(), "{at}");
        close(&format!("dots, {at}"), &common::values(scored), dots, bound(case.size[2]));
    });
}

fn close(what: &str, got: &[f32], want: &[f64], bound: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let off = (f64::from(*got) - want).abs();
        assert!(off <= bound, "{what}: value {i} is {got}, want {want}, off by {off:e}, allowed {bound:e}");
    }
}
