//! Scores by plain tensor operations, on every backend: the rows are gathered and used tile by tile.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{FloatDType, Shape, Slice};

/// Bytes of gathered rows that exist at a time.
const TILE_BYTES: usize = 16 << 20;

/// See [`super::dots`].
pub fn dots<B: Backend>(features: FloatTensor<B>, bank: FloatTensor<B>, rows: IntTensor<B>) -> FloatTensor<B> {
    let [b, d] = features.shape().dims();
    let features = B::float_reshape(features, Shape::new([b, d, 1]));
    let tiles = tiles::<B>(rows, d).map(|tile| {
        let [_, count] = tile.shape().dims();
        B::float_reshape(B::float_matmul(gather::<B>(&bank, tile), features.clone()), Shape::new([b, count]))
    });
    B::float_cat(tiles.collect(), 1)
}

/// See [`super::pull`].
pub fn pull<B: Backend>(weights: FloatTensor<B>, bank: FloatTensor<B>, rows: IntTensor<B>) -> FloatTensor<B> {
    let ([b, _], [_, d]) = (weights.shape().dims(), bank.shape().dims());
    let (mut sum, mut from) = (B::float_zeros(Shape::new([b, d]), &weights.device(), FloatDType::F32), 0);
    for tile in tiles::<B>(rows, d) {
        let [_, count] = tile.shape().dims();
        let part = B::float_slice(weights.clone(), &columns(b, from, count));
        let part = B::float_reshape(part, Shape::new([b, 1, count]));
        let rows = gather::<B>(&bank, tile);
        // CubeCL's matrix product takes no single column of a wider matrix.
        let product = if count == 1 { B::float_mul(rows, part) } else { B::float_matmul(part, rows) };
        sum = B::float_add(sum, B::float_reshape(product, Shape::new([b, d])));
        from += count;
    }
    sum
}

/// The columns of `rows` in parts whose gathered rows fit [`TILE_BYTES`].
fn tiles<B: Backend>(rows: IntTensor<B>, d: usize) -> impl Iterator<Item = IntTensor<B>> {
    let [b, r] = rows.shape().dims();
    let step = (TILE_BYTES / (4 * b * d).max(1)).clamp(1, r.max(1));
    (0..r).step_by(step).map(move |from| B::int_slice(rows.clone(), &columns(b, from, step.min(r - from))))
}

/// All `b` rows of `count` columns from `from` on.
fn columns(b: usize, from: usize, count: usize) -> [Slice; 2] {
    [Slice::from(0..b), Slice::from(from..from + count)]
}

/// `[b, t]` row numbers to `[b, t, d]` rows.
fn gather<B: Backend>(bank: &FloatTensor<B>, tile: IntTensor<B>) -> FloatTensor<B> {
    let ([b, t], [_, d]) = (tile.shape().dims(), bank.shape().dims());
    let rows = B::float_select(bank.clone(), 0, B::int_reshape(tile, Shape::new([b * t])));
    B::float_reshape(rows, Shape::new([b, t, d]))
}
