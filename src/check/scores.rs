//! Scores of features against drawn rows of a bank: every path of a device against the loops, and that path's start counted.

use super::{Tally, common};
use crate::device::Opened;
use crate::kernel::choice::paths_of;
use crate::kernel::{KernelPath, Op, poison_outputs, scores};
use crate::rng::{Purpose, Stream};
use burn::tensor::{Tensor, TensorData};

/// Features b, drawn rows r, width d, rows n of the bank: odd sizes, sizes of 1, more rows than a tile or a task holds.
const SHAPES: [[usize; 4]; 9] = [
    [1, 1, 1, 1],
    [3, 5, 7, 2],
    [5, 1, 12, 9],
    [2, 1025, 128, 50],
    [7, 3000, 33, 11],
    [1, 300, 4, 1000],
    [3, 70_001, 8, 5],
    [5, 400, 128, 5000],
    [5, 400, 128, 5000],
];

/// Every shape on every path; each is a case.
pub fn every_path_gives_the_scores_and_sums_of_the_loops(opened: &Opened, tally: &mut Tally) {
    poison_outputs(true);
    for (case, [b, r, d, n]) in (0..).zip(SHAPES) {
        let mut draw = Stream::new(3, Purpose::Synthetic, &[case]);
        let mut floats = |rows: usize, columns: usize| -> TensorData {
            TensorData::new((0..rows * columns).map(|_| draw.range(-1.0, 1.0) as f32).collect::<Vec<_>>(), [rows, columns])
        };
        let (features, bank, weights) = (floats(b, d), floats(n, d), floats(b, r));
        let mut drawn: Vec<i32> = (0..b * r).map(|_| draw.below(n as u64) as i32).collect();
        // Sorted behind the first, as the methods draw them, and in any order.
        if case % 2 == 0 {
            drawn.chunks_mut(r).for_each(|rows| rows[1..].sort_unstable());
        }
        let device = &opened.device;
        let tensor = |data: &TensorData| Tensor::<2>::from_data(data.clone(), device);
        let rows = || scores::rows(drawn.clone(), [b, r], device);
        let dots = |path| common::values(scores::dots(tensor(&features), tensor(&bank), rows(), path));
        let pull = |path| common::values(scores::pull(tensor(&weights), tensor(&bank), rows(), path));
        let (want_dots, want_pull) = (dots(KernelPath::Reference), pull(KernelPath::Reference));
        for path in paths_of(Op::Scores, &opened.info.compiler) {
            tally.case(&format!("path {}, b {b}, r {r}, d {d}, n {n}", path.name()), || {
                let (got_dots, got_pull) = common::asserting_path(Op::Scores, path, || (dots(path), pull(path)));
                let at = format!("{} on {}, b {b}, r {r}, d {d}, n {n}", path.name(), opened.info.name);
                // Products of values below 1 with random signs: partial sums of m of them stay near sqrt(m) / 3, so each addition rounds by about
                // u sqrt(m) / 3, and m independent roundings add up to u m / 3. Allowed is three times that, at least 2 u for a single product.
                let bound = |m: usize| (6e-8 * m as f64).max(1.2e-7);
                close(&format!("dots, {at}"), &got_dots, &want_dots, bound(d));
                close(&format!("pull, {at}"), &got_pull, &want_pull, bound(r));
            });
        }
    }
}

fn close(what: &str, got: &[f32], want: &[f32], bound: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let off = f64::from(got - want).abs();
        assert!(off <= bound, "{what}: value {i} is {got}, want {want}, off by {off:e}, allowed {bound:e}");
    }
}
