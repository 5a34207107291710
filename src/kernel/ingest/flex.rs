//! The ingest on the CPU: bytes to values in one pass, on all cores.

use std::ops::Range;

use burn::tensor::{DType, TensorData, bf16, f16};
use rayon::prelude::*;

use super::{ByteLayout, Ingest};
use crate::colour::{Constants, Curve, LAB_KNEE, LAB_OFFSET, LAB_SLOPE, LUV_SLOPE, WHITE_UV};
use crate::kernel::backend::cpu::{Output, Stored, fence};
use crate::kernel::mix::StageJob;
use crate::kernel::mix::flex::{Images, data, run};
use crate::kernel::path::ran;
use crate::kernel::{KernelPath, Op};
use crate::mixture::plan::Stage;
use crate::simd::widened;

/// Bytes to normalised images.
pub fn ingest(bytes: &[u8], how: &Ingest) -> TensorData {
    ran(Op::Ingest, KernelPath::Flex);
    match how.dtype {
        DType::F32 => stored::<f32>(bytes, how, None),
        DType::F16 => stored::<f16>(bytes, how, None),
        DType::BF16 => stored::<bf16>(bytes, how, None),
        other => panic!("the flex path makes f32, f16 and bf16, not {other:?}"),
    }
}

/// Bytes to normalised and mixed images, RGB only.
pub fn ingest_mix(bytes: &[u8], how: &Ingest, job: &StageJob) -> TensorData {
    ran(Op::IngestMix, KernelPath::Flex);
    match how.dtype {
        DType::F32 => stored::<f32>(bytes, how, Some(job)),
        DType::F16 => stored::<f16>(bytes, how, Some(job)),
        DType::BF16 => stored::<bf16>(bytes, how, Some(job)),
        other => panic!("the flex path makes f32, f16 and bf16, not {other:?}"),
    }
}

fn stored<S: Stored>(bytes: &[u8], how: &Ingest, job: Option<&StageJob>) -> TensorData {
    let [n, _, h, w] = how.shape();
    let values = match how.norm.affine() {
        Some(affine) => {
            let images = Rgb { bytes, plane: h * w, layout: how.layout, affine };
            let copies = || StageJob { stage: Stage::default().into(), keep: n };
            run::<S>(&images, how.shape(), &job.cloned().unwrap_or_else(copies))
        }
        None => colours::<S>(bytes, how),
    };
    data(values, [job.map_or(n, |job| job.keep), 3, h, w])
}

/// Images that are still bytes.
struct Rgb<'a> {
    bytes: &'a [u8],
    plane: usize,
    layout: ByteLayout,
    affine: [(f32, f32); 3],
}

impl Images for Rgb<'_> {
    fn read<'a>(&'a self, image: usize, range: Range<usize>, room: &'a mut [f32]) -> &'a [f32] {
        let room = &mut room[..range.len()];
        let mut done = 0;
        // A tile may reach over the border of two channels.
        while done < room.len() {
            let (channel, pixel) = ((range.start + done) / self.plane, (range.start + done) % self.plane);
            let count = (self.plane - pixel).min(room.len() - done);
            let part = &mut room[done..done + count];
            let image = &self.bytes[image * 3 * self.plane..][..3 * self.plane];
            match self.layout {
                ByteLayout::Chw => scaled(part, &image[channel * self.plane + pixel..][..count], self.affine[channel]),
                ByteLayout::Hwc => {
                    let (scale, shift) = self.affine[channel];
                    let pixels = image[pixel * 3..][..count * 3].chunks_exact(3);
                    part.iter_mut().zip(pixels).for_each(|(value, rgb)| *value = f32::from(rgb[channel]) * scale + shift);
                }
            }
            done += count;
        }
        room
    }
}

widened! {
    /// `byte * scale + shift`.
    fn scaled(values: &mut [f32], bytes: &[u8], affine: (f32, f32)) {
        for (value, &byte) in values.iter_mut().zip(bytes) {
            *value = f32::from(byte) * affine.0 + affine.1;
        }
    }
}

/// Pixels that are converted at a time.
const BLOCK: usize = 1024;

/// Spaces in which an output channel needs all three of a pixel.
fn colours<S: Stored>(bytes: &[u8], how: &Ingest) -> Vec<S> {
    let [n, h, w] = how.dims;
    let plane = h * w;
    let (constants, (pixel_step, channel_step)) = (how.norm.constants(), how.steps());
    let curve = how.norm.space.curve();
    let input: [f32; 256] = std::array::from_fn(|byte| match curve {
        Curve::Affine | Curve::Hsv => byte as f32,
        _ => curve.input(byte as f64 / 255.0) as f32,
    });
    let output = Output::<S>::new(n, 3 * plane);
    let blocks = plane.div_ceil(BLOCK);
    (0..n * blocks).into_par_iter().with_min_len(8).for_each_init(
        || [[0.0f32; BLOCK]; 3],
        |rgb, task| {
            let (image, from) = (task / blocks, task % blocks * BLOCK);
            let count = BLOCK.min(plane - from);
            for (channel, values) in rgb.iter_mut().enumerate() {
                let first = image * 3 * plane + from * pixel_step + channel * channel_step;
                values.iter_mut().take(count).enumerate().for_each(|(p, v)| *v = input[bytes[first + p * pixel_step] as usize]);
            }
            match curve {
                Curve::Affine | Curve::Light => matrix(rgb, &constants),
                Curve::Lab => lab(rgb, &constants),
                Curve::Luv => luv(rgb, &constants),
                Curve::Hsv => hsv(rgb, &constants),
                Curve::Hed => hed(rgb, &constants),
            }
            for (channel, values) in rgb.iter().enumerate() {
                let at = channel * plane + from;
                // SAFETY: each task writes the pixels of its own block of its own image.
                unsafe { output.write(image, at..at + count, &values[..count]) };
            }
            fence();
        },
    );
    // SAFETY: the blocks cover every plane of every image; the loop has ended.
    unsafe { output.finish(n) }
}

/// `then(matrix . (r, g, b, 1))` in place.
#[inline(always)]
fn each_pixel(rgb: &mut [[f32; BLOCK]; 3], constants: &Constants, then: impl Fn([f32; 3]) -> [f32; 3]) {
    let m = constants.matrix;
    let [red, green, blue] = rgb;
    for ((red, green), blue) in red.iter_mut().zip(green).zip(blue) {
        let row = |c: usize| m[c][0] * *red + m[c][1] * *green + m[c][2] * *blue + m[c][3];
        [*red, *green, *blue] = then([row(0), row(1), row(2)]);
    }
}

/// The same with the gain and the shift of the curves.
#[inline(always)]
fn curved(rgb: &mut [[f32; BLOCK]; 3], constants: &Constants, curve: impl Fn([f32; 3]) -> [f32; 3]) {
    let Constants { gain, shift, .. } = *constants;
    each_pixel(rgb, constants, |pixel| {
        let [a, b, c] = curve(pixel);
        [a * gain[0] + shift[0], b * gain[1] + shift[1], c * gain[2] + shift[2]]
    });
}

widened! {
    fn matrix(rgb: &mut [[f32; BLOCK]; 3], constants: &Constants) {
        each_pixel(rgb, constants, |pixel| pixel);
    }
}

widened! {
    fn lab(rgb: &mut [[f32; BLOCK]; 3], constants: &Constants) {
        curved(rgb, constants, |xyz| {
            let [x, y, z] = xyz.map(|t| {
                let line = LAB_SLOPE as f32 * t + LAB_OFFSET as f32;
                if t > LAB_KNEE as f32 { cube_root(t) } else { line }
            });
            [y, x - y, y - z]
        });
    }
}

widened! {
    fn luv(rgb: &mut [[f32; BLOCK]; 3], constants: &Constants) {
        curved(rgb, constants, |[x, y, z]| {
            let lightness = if y > LAB_KNEE as f32 { 116.0 * cube_root(y) - 16.0 } else { LUV_SLOPE as f32 * y };
            // The least of any other colour than black is 1e-3.
            let sum = (x + 15.0 * y + 3.0 * z).max(1e-6);
            [lightness, lightness * (4.0 * x / sum - WHITE_UV[0] as f32), lightness * (9.0 * y / sum - WHITE_UV[1] as f32)]
        });
    }
}

widened! {
    fn hsv(rgb: &mut [[f32; BLOCK]; 3], constants: &Constants) {
        // Whole numbers: a difference is 0 or at least 1. Grey is red's, with hue 0.
        curved(rgb, constants, |[r, g, b]| {
            let top = r.max(g).max(b);
            let spread = top - r.min(g).min(b);
            let divisor = spread.max(1.0);
            let red = (g - b) / divisor;
            let red = if red < 0.0 { red + 6.0 } else { red };
            let (green, blue) = ((b - r) / divisor + 2.0, (r - g) / divisor + 4.0);
            let hue = if g == top { green } else { blue };
            [if r == top { red } else { hue }, spread / top.max(1.0), top]
        });
    }
}

widened! {
    fn hed(rgb: &mut [[f32; BLOCK]; 3], constants: &Constants) {
        curved(rgb, constants, |stains| stains.map(|stain| stain.max(0.0)));
    }
}

/// Cube root of a positive number, to about an ulp, in operations that vectorise: the exponent divided by three, then Halley's
/// iteration twice (5 good bits, 15, 45).
#[inline(always)]
fn cube_root(t: f32) -> f32 {
    let mut root = f32::from_bits(t.to_bits() / 3 + 709_958_130);
    for _ in 0..2 {
        let cube = root * root * root;
        root *= (cube + 2.0 * t) / (2.0 * cube + t);
    }
    root
}

#[cfg(test)]
mod tests {
    #[test]
    fn cube_roots_are_within_two_units_in_the_last_place() {
        for step in 0..100_000 {
            let t = (f64::from(step) / 100_000.0 * 1.2 + 0.0089) as f32;
            let (got, want) = (f64::from(super::cube_root(t)), f64::from(t).cbrt());
            assert!((got - want).abs() <= 2.0 * want * f64::from(f32::EPSILON), "{t}: {got}, want {want}");
        }
    }
}
