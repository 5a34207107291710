//! Scores by plain tensor operations, on every backend: the rows are gathered and used tile by tile.

use burn::tensor::{Int, Tensor};

/// Bytes of gathered rows that exist at a time.
const TILE_BYTES: usize = 16 << 20;

/// See [`super::dots`].
pub fn dots(features: Tensor<2>, bank: Tensor<2>, rows: Tensor<2, Int>) -> Tensor<2> {
    let [b, d] = features.dims();
    let features = features.reshape([b, d, 1]);
    let tiles = tiles(rows, d).map(|tile| {
        let [_, count] = tile.dims();
        gather(&bank, tile).matmul(features.clone()).reshape([b, count])
    });
    Tensor::cat(tiles.collect(), 1)
}

/// See [`super::pull`].
pub fn pull(weights: Tensor<2>, bank: Tensor<2>, rows: Tensor<2, Int>) -> Tensor<2> {
    let [b, _] = weights.dims();
    let [_, d] = bank.dims();
    let (mut sum, mut from) = (Tensor::zeros([b, d], &weights.device()), 0);
    for tile in tiles(rows, d) {
        let [_, count] = tile.dims();
        let part = weights.clone().narrow(1, from, count).reshape([b, 1, count]);
        let rows = gather(&bank, tile);
        // CubeCL's matrix product takes no single column of a wider matrix.
        let product = if count == 1 { rows * part } else { part.matmul(rows) };
        sum = sum + product.reshape([b, d]);
        from += count;
    }
    sum
}

/// The columns of `rows` in parts whose gathered rows fit [`TILE_BYTES`].
fn tiles(rows: Tensor<2, Int>, d: usize) -> impl Iterator<Item = Tensor<2, Int>> {
    let [b, r] = rows.dims();
    let step = (TILE_BYTES / (4 * b * d).max(1)).clamp(1, r.max(1));
    (0..r).step_by(step).map(move |from| rows.clone().narrow(1, from, step.min(r - from)))
}

/// `[b, t]` row numbers to `[b, t, d]` rows.
fn gather(bank: &Tensor<2>, tile: Tensor<2, Int>) -> Tensor<3> {
    let ([b, t], [_, d]) = (tile.dims(), bank.dims());
    bank.clone().select(0, tile.reshape([b * t])).reshape([b, t, d])
}
