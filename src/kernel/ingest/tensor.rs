//! The portable form of the ingest: plain tensor operations, on every backend.

use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};

use super::{ByteLayout, Ingest};
use crate::colour::{Constants, Curve, LAB_KNEE, LAB_OFFSET, LAB_SLOPE, LEAST_LIGHT, LUV_SLOPE, WHITE_UV};

/// Bytes, four in a word, to normalised images `[n, 3, h, w]`.
pub fn ingest(words: &Tensor<1, Int>, how: &Ingest) -> Tensor<4> {
    let [n, h, w] = how.dims;
    let device = &words.device();
    let count = words.dims()[0];
    let byte = |shift: i32| words.clone().bitwise_right_shift_scalar(shift).bitwise_and_scalar(255).reshape([count, 1]);
    let unpacked = Tensor::cat(vec![byte(0), byte(8), byte(16), byte(24)], 1).reshape([count * 4]);
    let flat = unpacked.narrow(0, 0, how.bytes()).float().cast(FloatDType::F32);
    let images = match how.layout {
        ByteLayout::Chw => flat.reshape([n, 3, h, w]),
        ByteLayout::Hwc => flat.reshape([n, h, w, 3]).permute([0, 3, 1, 2]),
    };
    let constants = how.norm.constants();
    let curve = how.norm.space.curve();
    let values = match (how.norm.affine(), curve) {
        (Some(affine), _) => images * channels(affine.map(|a| a.0), device) + channels(affine.map(|a| a.1), device),
        (None, Curve::Affine) => matrix(images, &constants),
        (None, Curve::Light) => matrix(linear(images), &constants),
        (None, _) => {
            let values = match curve {
                Curve::Luv => luv(matrix(linear(images), &constants)),
                Curve::Hsv => hsv(images),
                Curve::Hed => matrix(density(images), &constants).clamp_min(0.0),
                _ => lab(matrix(linear(images), &constants)),
            };
            values * channels(constants.gain, device) + channels(constants.shift, device)
        }
    };
    let dtype = match how.dtype {
        DType::F16 => FloatDType::F16,
        DType::BF16 => FloatDType::BF16,
        _ => FloatDType::F32,
    };
    values.cast(dtype)
}

/// One value per channel, as a factor or summand of images.
fn channels(values: [f32; 3], device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(values.to_vec(), [1, 3, 1, 1]), (device, DType::F32))
}

fn split(images: Tensor<4>) -> [Tensor<4>; 3] {
    std::array::from_fn(|c| images.clone().narrow(1, c, 1))
}

/// `matrix . (r, g, b, 1)` per pixel, `[n, 3, h, w]` to `[n, 3, h, w]`.
fn matrix(images: Tensor<4>, constants: &Constants) -> Tensor<4> {
    let [r, g, b] = split(images);
    let row = |[wr, wg, wb, offset]: [f32; 4]| r.clone() * wr + g.clone() * wg + b.clone() * wb + offset;
    Tensor::cat(constants.matrix.map(row).to_vec(), 1)
}

/// Linear light of sRGB bytes.
fn linear(bytes: Tensor<4>) -> Tensor<4> {
    let unit = bytes / 255.0;
    let dark = unit.clone().lower_equal_elem(0.04045);
    ((unit.clone() + 0.055) / 1.055).powf_scalar(2.4).mask_where(dark, unit / 12.92)
}

/// Optical density of bytes, in units of the darkest.
fn density(bytes: Tensor<4>) -> Tensor<4> {
    (bytes / 255.0).clamp_min(LEAST_LIGHT).log() / LEAST_LIGHT.ln()
}

/// The values of Lab (see [`Constants`]) of XYZ over white.
fn lab(xyz: Tensor<4>) -> Tensor<4> {
    let low = xyz.clone().lower_equal_elem(LAB_KNEE);
    let line = xyz.clone() * LAB_SLOPE + LAB_OFFSET;
    let [x, y, z] = split(xyz.powf_scalar(1.0 / 3.0).mask_where(low, line));
    Tensor::cat(vec![y.clone(), x - y.clone(), y - z], 1)
}

/// The values of LUV of XYZ.
fn luv(xyz: Tensor<4>) -> Tensor<4> {
    let [x, y, z] = split(xyz);
    let low = y.clone().lower_equal_elem(LAB_KNEE);
    let lightness = (y.clone().powf_scalar(1.0 / 3.0) * 116.0 - 16.0).mask_where(low, y.clone() * LUV_SLOPE);
    // The least of any other colour than black is 1e-3.
    let sum = (x.clone() + y.clone() * 15.0 + z * 3.0).clamp_min(1e-6);
    let u = x * 4.0 / sum.clone() - WHITE_UV[0];
    let v = y * 9.0 / sum - WHITE_UV[1];
    Tensor::cat(vec![lightness.clone(), lightness.clone() * u, lightness * v], 1)
}

/// The values of HSV of bytes. They are whole numbers, so comparisons are exact and a difference is 0 or at least 1; grey, whose channels
/// all are the largest, falls to red's sector and there to 0.
fn hsv(bytes: Tensor<4>) -> Tensor<4> {
    let (top, bottom) = (bytes.clone().max_dim(1), bytes.clone().min_dim(1));
    let [r, g, b] = split(bytes);
    let spread = top.clone() - bottom;
    let divisor = spread.clone().clamp_min(1.0);
    let red = (g.clone() - b.clone()) / divisor.clone();
    let red = red.clone().mask_where(red.clone().lower_elem(0.0), red + 6.0);
    let green = (b - r.clone()) / divisor.clone() + 2.0;
    let blue = (r.clone() - g.clone()) / divisor + 4.0;
    let hue = blue.mask_where(g.equal(top.clone()), green).mask_where(r.equal(top.clone()), red);
    Tensor::cat(vec![hue, spread / top.clone().clamp_min(1.0), top], 1)
}
