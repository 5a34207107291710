//! The portable form of the ingest: plain tensor operations, on every backend.

use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};

use super::{ByteLayout, Ingest, words};
use crate::kernel::colour::{ColorSpace, LAB_KNEE, LAB_OFFSET, LAB_SLOPE};

/// Bytes to normalised images `[n, 3, h, w]`.
pub fn ingest(bytes: &[u8], how: &Ingest, device: &Device) -> Tensor<4> {
    let [n, h, w] = how.dims;
    let words = words(bytes, device);
    let count = words.dims()[0];
    let byte = |shift: i32| words.clone().bitwise_right_shift_scalar(shift).bitwise_and_scalar(255).reshape([count, 1]);
    let unpacked = Tensor::cat(vec![byte(0), byte(8), byte(16), byte(24)], 1).reshape([count * 4]);
    let flat = unpacked.narrow(0, 0, bytes.len()).float().cast(FloatDType::F32);
    let images = match how.layout {
        ByteLayout::Chw => flat.reshape([n, 3, h, w]),
        ByteLayout::Hwc => flat.reshape([n, h, w, 3]).permute([0, 3, 1, 2]),
    };
    let values = match how.norm.space {
        ColorSpace::Rgb => {
            let affine = how.norm.affine().expect("RGB is affine per channel");
            let channel = |pick: fn(&(f32, f32)) -> f32| {
                Tensor::<4>::from_data(
                    TensorData::new(affine.iter().map(pick).collect::<Vec<_>>(), [1, 3, 1, 1]),
                    (device, DType::F32),
                )
            };
            images * channel(|a| a.0) + channel(|a| a.1)
        }
        ColorSpace::YCbCr => matrix(images, how),
        ColorSpace::Lab => lab(images, how),
    };
    let dtype = match how.dtype {
        DType::F16 => FloatDType::F16,
        DType::BF16 => FloatDType::BF16,
        _ => FloatDType::F32,
    };
    values.cast(dtype)
}

/// `matrix . (r, g, b, 1)` per pixel, `[n, 3, h, w]` to `[n, 3, h, w]`.
fn matrix(images: Tensor<4>, how: &Ingest) -> Tensor<4> {
    let channel = |c: usize| images.clone().narrow(1, c, 1);
    let (r, g, b) = (channel(0), channel(1), channel(2));
    let row = |[wr, wg, wb, offset]: [f32; 4]| r.clone() * wr + g.clone() * wg + b.clone() * wb + offset;
    Tensor::cat(how.norm.constants().matrix.map(row).to_vec(), 1)
}

fn lab(images: Tensor<4>, how: &Ingest) -> Tensor<4> {
    let unit = images / 255.0;
    let dark = unit.clone().lower_equal_elem(0.04045);
    let linear = ((unit.clone() + 0.055) / 1.055).powf_scalar(2.4).mask_where(dark, unit / 12.92);
    let xyz = matrix(linear, how);
    let low = xyz.clone().lower_equal_elem(LAB_KNEE);
    let line = xyz.clone() * LAB_SLOPE + LAB_OFFSET;
    let f = xyz.powf_scalar(1.0 / 3.0).mask_where(low, line);
    let (x, y, z) = (f.clone().narrow(1, 0, 1), f.clone().narrow(1, 1, 1), f.narrow(1, 2, 1));
    let constants = how.norm.constants();
    let differences = [y.clone(), x - y.clone(), y - z];
    let scaled = differences.into_iter().enumerate().map(|(c, value)| value * constants.gain[c] + constants.shift[c]);
    Tensor::cat(scaled.collect(), 1)
}
