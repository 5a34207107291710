//! Convolutions of channels-last maps with PyTorch's weights, and their two gradients, each by the fastest way for its shape.

use rayon::prelude::*;

use super::buffer::Buffer;
use super::grid::{Grid, correlate, multiply, pack};
use super::winograd::{self, Variant};
use crate::kernel::net::sizes::Conv;
use crate::kernel::net::{Ways, Winograd};

/// Below this number of channels a tap reads too few values at a time: the taps of a kernel row are read in one run, from a padded copy.
const FEW_CHANNELS: usize = 16;

/// Whether the taps of a kernel row are read together.
fn by_rows(conv: &Conv) -> bool {
    conv.kernel > 1 && conv.input < FEW_CHANNELS
}

/// The map with its padding of zeros.
fn padded(conv: &Conv, x: &[f32]) -> Buffer {
    let ([h, w], p, c) = (conv.size, conv.padding, conv.input);
    let row = (w + 2 * p) * c;
    let mut out = Buffer::zeros(conv.n * (h + 2 * p) * row);
    if row > 0 {
        out.par_chunks_mut((h + 2 * p) * row).zip(x.par_chunks((h * w * c).max(1))).for_each(|(out, x)| {
            for (out, x) in out[p * row..].chunks_exact_mut(row).zip(x.chunks_exact(w * c)) {
                out[p * c..p * c + w * c].copy_from_slice(x);
            }
        });
    }
    out
}

/// A convolution or one of its gradients.
#[derive(Clone, Copy)]
enum Which {
    Forward,
    InputGradient,
    WeightGradient,
}

/// Winograd's form of it, if it has one and that is asked for or faster.
fn variant(conv: &Conv, which: Which, ways: Ways) -> Option<Variant> {
    let applies = conv.kernel == 3 && conv.stride == 1 && conv.padding <= 2;
    match ways.winograd {
        _ if !applies => None,
        Winograd::Off => None,
        Winograd::F2 => Some(Variant::F2),
        Winograd::F4 => Some(Variant::F4),
        Winograd::Auto => winograd::choose(conv)[which as usize],
    }
}

/// The convolution of `x` with `weights` `[c_out, c_in, k, k]`.
pub fn forward(conv: &Conv, x: &[f32], weights: &[f32], ways: Ways, out: &mut [f32]) {
    let (kernel, input) = (conv.kernel, conv.input);
    let area = kernel * kernel;
    if let Some(variant) = variant(conv, Which::Forward, ways) {
        return winograd::forward(conv, variant, x, weights, ways.simd.no_wider_than(conv.output), false, out);
    }
    if by_rows(conv) {
        let grid = Grid::forward_by_rows(conv);
        let packed =
            pack(&grid, conv.output, ways.simd, |y, at, o| weights[(o * input + at % input) * area + y * kernel + at / input]);
        multiply(&grid, &padded(conv, x), &packed, false, out);
    } else {
        let grid = Grid::forward(conv);
        let packed = pack(&grid, conv.output, ways.simd, |tap, i, o| weights[(o * input + i) * area + tap]);
        multiply(&grid, x, &packed, false, out);
    }
}

/// The gradient with respect to the input, added to what is in `out` with `add`.
pub fn input_gradient(conv: &Conv, gradient: &[f32], weights: &[f32], ways: Ways, add: bool, out: &mut [f32]) {
    let (area, input) = (conv.kernel * conv.kernel, conv.input);
    if let Some(variant) = variant(conv, Which::InputGradient, ways) {
        return winograd::input_gradient(conv, variant, gradient, weights, ways.simd.no_wider_than(input), add, out);
    }
    for y in 0..conv.stride {
        for x in 0..conv.stride {
            let (grid, taps) = Grid::backward(conv, [y, x]);
            if grid.rows() > 0 && !(add && taps.is_empty()) {
                let packed = pack(&grid, input, ways.simd, |tap, o, i| weights[(o * input + i) * area + taps[tap]]);
                multiply(&grid, gradient, &packed, add, out);
            }
        }
    }
}

/// The gradient with respect to the weights, `[c_out, c_in, k, k]`.
pub fn weight_gradient(conv: &Conv, x: &[f32], gradient: &[f32], ways: Ways) -> Buffer {
    if let Some(variant) = variant(conv, Which::WeightGradient, ways) {
        return winograd::weight_gradient(conv, variant, x, gradient, ways.simd.no_wider_than(conv.output));
    }
    let sums = if by_rows(conv) {
        correlate(&Grid::forward_by_rows(conv), &padded(conv, x), gradient, conv.output, ways.simd)
    } else {
        correlate(&Grid::forward(conv), x, gradient, conv.output, ways.simd)
    };
    // Both orders are [kernel row, kernel column, c_in, c_out].
    let (area, input, output) = (conv.kernel * conv.kernel, conv.input, conv.output);
    let mut out = Buffer::new(conv.weights());
    out.par_chunks_mut((area * input * LINE).max(1)).enumerate().for_each(|(block, out)| {
        for (term, sums) in sums.chunks_exact(output).enumerate() {
            let (tap, i) = (term / input, term % input);
            let from = block * LINE;
            for (out, value) in out.chunks_exact_mut(area * input).zip(&sums[from..]) {
                out[i * area + tap] = *value;
            }
        }
    });
    out
}

/// Output channels that are put in order together: the values of a cache line.
const LINE: usize = 16;
