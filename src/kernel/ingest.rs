//! From the loader's bytes to normalised images on the device.

use burn::tensor::{Device, Int, Tensor, TensorData};
use rayon::prelude::*;

/// Per-channel constants of the normalisation `(x / 255 - mean) / std`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalization {
    /// Mean per channel, of values in 0..1.
    pub mean: [f32; 3],
    /// Standard deviation per channel, of values in 0..1.
    pub std: [f32; 3],
}

impl Normalization {
    /// `scale` and `shift` per channel with `x * scale + shift` for x in 0..=255.
    fn affine(&self) -> [(f32, f32); 3] {
        std::array::from_fn(|c| (1.0 / (255.0 * self.std[c]), -self.mean[c] / self.std[c]))
    }
}

/// Uploads bytes and normalises them. On a bare CPU, where there is no upload, in one pass over the bytes; elsewhere the bytes
/// travel packed, four in a 32-bit word (WGSL has no 8-bit type), and the device unpacks them.
///
/// # Shapes
/// - `bytes` `[n, 3, h, w]`
/// - output `[n, 3, h, w]`, f32
pub fn ingest(bytes: &[u8], dims: [usize; 4], norm: &Normalization, device: &Device, on_host: bool) -> Tensor<4> {
    let [n, c, h, w] = dims;
    assert_eq!((bytes.len(), c), (n * 3 * h * w, 3), "bytes of {dims:?}");
    if on_host {
        let mut values = vec![0.0f32; bytes.len()];
        let affine = norm.affine();
        values.par_chunks_mut(h * w).zip(bytes.par_chunks(h * w)).enumerate().for_each(|(plane, (out, plane_bytes))| {
            let (scale, shift) = affine[plane % 3];
            out.iter_mut().zip(plane_bytes).for_each(|(v, &b)| *v = f32::from(b) * scale + shift);
        });
        return Tensor::from_data(TensorData::new(values, dims), device);
    }
    let words: Vec<i32> = bytes
        .chunks(4)
        .map(|four| {
            let mut word = [0u8; 4];
            word[..four.len()].copy_from_slice(four);
            i32::from_le_bytes(word)
        })
        .collect();
    let count = words.len();
    let words = Tensor::<1, Int>::from_data(TensorData::new(words, [count]), device);
    let byte = |shift: u32| words.clone().bitwise_right_shift_scalar(shift as i32).bitwise_and_scalar(255).reshape([count, 1]);
    let unpacked = Tensor::cat(vec![byte(0), byte(8), byte(16), byte(24)], 1).reshape([count * 4]);
    let images = unpacked.narrow(0, 0, bytes.len()).float().reshape(dims);
    let affine = norm.affine();
    let channel = |pick: fn(&(f32, f32)) -> f32| {
        Tensor::<4>::from_data(TensorData::new(affine.iter().map(pick).collect::<Vec<_>>(), [1, 3, 1, 1]), device)
    };
    images * channel(|a| a.0) + channel(|a| a.1)
}
