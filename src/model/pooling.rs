//! Rows of any layer, as linear probes read them (semantics section 7.1; arXiv 1906.05849 and 2003.05438v1 probe every layer).

use burn::tensor::Tensor;

use super::encoder::{Backbone, Encoder, Taps};

/// How the windows of an adaptive pooling become one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// Their mean.
    Mean,
    /// Their largest value.
    Max,
}

/// Sides to which the maps of a ResNet are averaged; its fifth map stays as it is.
const RESNET: [usize; 4] = [8, 6, 4, 3];
/// Sides to which the largest values of AlexNet's maps are taken; its fifth map stays as it is.
const ALEXNET: [usize; 4] = [10, 6, 5, 5];

/// Layer `layer` (from 1) of a forward of `encoder`, one row per image: maps pooled and flattened, rows as they are, the last one the embedding.
///
/// # Shapes
/// - output `[n, c side side]` for maps, `[n, f]` and `[n, d]` for the others
///
/// # Panics
/// The encoder has no such layer.
pub fn rows(encoder: &Encoder, taps: &Taps, layer: usize) -> Tensor<2> {
    let (sides, window) = match encoder.backbone {
        Backbone::ResNet(_) => (RESNET, Window::Mean),
        Backbone::AlexNet(_) => (ALEXNET, Window::Max),
    };
    let index = layer.checked_sub(1).expect("layers count from 1");
    if let Some(map) = taps.maps.get(index) {
        let map = map.clone();
        return match sides.get(index) {
            Some(&side) => adaptive(map, side, window).flatten(1, 3),
            None => map.flatten(1, 3),
        };
    }
    match taps.rows.get(index - taps.maps.len()) {
        Some(rows) => rows.clone(),
        None if layer == encoder.layers() => taps.embedding.clone(),
        None => panic!("the encoder has layers 1 to {}, not {layer}", encoder.layers()),
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
