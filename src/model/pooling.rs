//! Rows of any layer, as linear probes read them (arXiv 1906.05849 and 2003.05438v1 probe every layer).

use burn::tensor::Tensor;

use super::encoder::{Encoder, Taps};
use super::layer::Layer;

/// How the windows of an adaptive pooling become one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// Their mean.
    Mean,
    /// Their largest value.
    Max,
}

/// How the map of a layer is pooled before a probe reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// Side of the pooled map.
    pub side: usize,
    /// Mean or maximum.
    pub window: Window,
}

/// The output of layer `layer` (from 1) of a forward of `encoder` as one row per image. Maps are pooled and flattened; hidden layers and the
/// embedding are rows already.
///
/// # Shapes
/// - output `[n, c side side]` for maps, `[n, f]` and `[n, d]` for the others
///
/// # Panics
/// The encoder has no such layer.
pub fn rows(encoder: &Encoder, taps: &Taps, layer: usize) -> Tensor<2> {
    let layers = encoder.layers();
    match layers.get(layer) {
        Some(Layer::Map(Some(pool))) => adaptive(taps.maps[layer - 1].clone(), pool.side, pool.window).flatten(1, 3),
        Some(Layer::Map(None)) => taps.maps[layer - 1].clone().flatten(1, 3),
        Some(Layer::Rows) => taps.rows[layer - 1 - taps.maps.len()].clone(),
        Some(Layer::Embedding) => taps.embedding.clone(),
        None => panic!("the encoder has layers 1 to {}, not {layer}", layers.count()),
    }
}

/// Adaptive pooling to `side` x `side`: window i of `side` covers floor(i s / side) .. ceil((i + 1) s / side) of s, as in PyTorch. Means and
/// maxima over a rectangle are taken over one axis after the other.
///
/// # Shapes
/// - `[n, c, h, w]` to `[n, c, side, side]`; windows overlap or repeat where the map is smaller
pub fn adaptive(map: Tensor<4>, side: usize, window: Window) -> Tensor<4> {
    [2, 3].into_iter().fold(map, |map, axis| {
        let size = map.dims()[axis];
        if size == side {
            return map;
        }
        let parts = (0..side).map(|i| {
            let (start, end) = (i * size / side, ((i + 1) * size).div_ceil(side));
            let part = map.clone().narrow(axis, start, end - start);
            match window {
                Window::Mean => part.mean_dim(axis),
                Window::Max => part.max_dim(axis),
            }
        });
        Tensor::cat(parts.collect(), axis)
    })
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    /// The definition, window by window.
    fn by_hand(values: &[f32], [h, w]: [usize; 2], side: usize, window: Window) -> Vec<f32> {
        let range = |i: usize, size: usize| i * size / side..((i + 1) * size).div_ceil(side);
        let cell = |i: usize, j: usize| {
            let cells: Vec<f32> = range(i, h).flat_map(|y| range(j, w).map(move |x| values[y * w + x])).collect();
            match window {
                Window::Mean => cells.iter().sum::<f32>() / cells.len() as f32,
                Window::Max => cells.into_iter().fold(f32::MIN, f32::max),
            }
        };
        (0..side).flat_map(|i| (0..side).map(move |j| cell(i, j))).collect()
    }

    #[test]
    fn windows_are_those_of_pytorch_for_larger_and_smaller_maps() {
        for [h, w] in [[1, 1], [2, 2], [3, 8], [7, 5], [16, 9]] {
            let values: Vec<f32> = (0..h * w).map(|i| ((i * 37 + 11) % 23) as f32 - 9.0).collect();
            let map = Tensor::<4>::from_data(TensorData::new(values.clone(), [1, 1, h, w]), &Device::flex());
            for side in [1, 3, 4, 6, 8, 10] {
                for window in [Window::Mean, Window::Max] {
                    let got = adaptive(map.clone(), side, window).into_data().try_to_vec::<f32>().unwrap();
                    let want = by_hand(&values, [h, w], side, window);
                    let off = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                    assert!(got.len() == side * side && off < 1e-5, "{h}x{w} to {side} {window:?}: {got:?}, want {want:?}");
                }
            }
        }
    }
}
