//! The largest value of windows of channels-last maps.

use burn::backend::Flex;
use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;
use rayon::prelude::*;

use super::buffer::Buffer;
use super::{channels_first, channels_last, tensor, values};
use crate::kernel::net::Window;
use crate::kernel::net::profile::{Kind, timed};
use crate::simd::widened;

/// Where each largest value came from: what the way back needs.
#[derive(Debug)]
pub struct Kept {
    window: Window,
    /// `[n, h, w, c]` of the input.
    dims: [usize; 4],
    /// Position in its window of each value of the output.
    places: Vec<u8>,
}

/// Window positions `(place, pixel)` of an output pixel that lie in the map, row by row.
fn inside(window: Window, [h, w]: [usize; 2], [y, x]: [usize; 2]) -> impl Iterator<Item = (u8, usize)> {
    let Window { side, stride, padding } = window;
    let line = move |place: usize, at: usize, size: usize| (at * stride + place).checked_sub(padding).filter(|pixel| *pixel < size);
    let rows = (0..side).filter_map(move |i| line(i, y, h).map(|pixel| (i, pixel)));
    rows.flat_map(move |(i, row)| {
        (0..side).filter_map(move |j| line(j, x, w).map(|column| ((i * side + j) as u8, row * w + column)))
    })
}

/// See [`crate::kernel::net::max_pool`]; with `keep` what [`backward`] needs.
pub fn forward(x: FloatTensor<Flex>, window: Window, keep: bool) -> (FloatTensor<Flex>, Option<Kept>) {
    let x = channels_last(x);
    let dims: [usize; 4] = x.shape().dims();
    let [n, h, w, c] = dims;
    let [out_h, out_w] = [h, w].map(|side| window.outputs(side));
    let input = values(&x);
    let mut out = Buffer::new(n * out_h * out_w * c);
    let mut places = vec![0u8; if keep { out.len() } else { 0 }];
    timed(Kind::Norm, || {
        let line = (out_w * c).max(1);
        let lines = out.par_chunks_mut(line).enumerate();
        let row = |at: usize, out: &mut [f32], mut places: Option<&mut [u8]>| {
            let (image, y) = (at / out_h, at % out_h);
            let map = &input[image * h * w * c..][..h * w * c];
            let mut found = vec![0u32; c];
            for (x, out) in out.chunks_exact_mut(c).enumerate() {
                out.fill(f32::NEG_INFINITY);
                for (place, pixel) in inside(window, [h, w], [y, x]) {
                    raise(out, &mut found, &map[pixel * c..][..c], u32::from(place));
                }
                if let Some(places) = &mut places {
                    places[x * c..][..c].iter_mut().zip(&found).for_each(|(place, found)| *place = *found as u8);
                }
            }
        };
        if keep {
            lines.zip(places.par_chunks_mut(line)).for_each(|((at, out), places)| row(at, out, Some(places)));
        } else {
            lines.for_each(|(at, out)| row(at, out, None));
        }
    });
    (channels_first(tensor(out, [n, out_h, out_w, c])), keep.then_some(Kept { window, dims, places }))
}

widened! {
    /// Takes the values that are larger than those before them, or that are not numbers, with their place.
    fn raise(largest: &mut [f32], places: &mut [u32], values: &[f32], place: u32) {
        let count = values.len();
        let (largest, places) = (&mut largest[..count], &mut places[..count]);
        for c in 0..count {
            let takes = values[c] > largest[c] || values[c].is_nan();
            largest[c] = if takes { values[c] } else { largest[c] };
            places[c] = if takes { place } else { places[c] };
        }
    }
}

/// The gradient of the input: that of each largest value goes to where it came from.
pub fn backward(gradient: FloatTensor<Flex>, kept: &Kept) -> FloatTensor<Flex> {
    let Kept { window, dims, places } = kept;
    let [n, h, w, c] = *dims;
    let [out_h, out_w] = [h, w].map(|side| window.outputs(side));
    let gradient = channels_last(gradient);
    let mut out = Buffer::new(n * h * w * c);
    timed(Kind::Norm, || {
        let images = out.par_chunks_mut((h * w * c).max(1)).zip(values(&gradient).par_chunks((out_h * out_w * c).max(1)));
        images.zip(places.par_chunks((out_h * out_w * c).max(1))).for_each(|((out, gradient), places)| {
            out.fill(0.0);
            for at in 0..out_h * out_w {
                let (gradient, places) = (&gradient[at * c..][..c], &places[at * c..][..c]);
                for (place, pixel) in inside(*window, [h, w], [at / out_w, at % out_w]) {
                    give(&mut out[pixel * c..][..c], gradient, places, place);
                }
            }
        });
    });
    channels_first(tensor(out, *dims))
}

widened! {
    /// Adds the gradients whose values came from `place`.
    fn give(out: &mut [f32], gradient: &[f32], places: &[u8], place: u8) {
        let count = out.len();
        let (gradient, places) = (&gradient[..count], &places[..count]);
        for c in 0..count {
            out[c] += if places[c] == place { gradient[c] } else { 0.0 };
        }
    }
}
