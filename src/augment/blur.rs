//! Gaussian blur: PIL's approximation by three box filters per axis (the one the recipes use), and the sampled Gaussian.
//!
//! The boxes have fractional width: the outermost pixel on each side counts in part (Gwosdek et al., "Theoretical foundations
//! of Gaussian convolution by extended box filtering", SSVM 2011).

use super::planes::Planes;
use super::step::{Scratch, Step};
use crate::data::RgbImage;
use crate::rng::Stream;
use crate::simd::widened;

/// Blurs with a radius (standard deviation in pixels) U[min_radius, max_radius) with probability `prob`.
#[derive(Debug, Clone, PartialEq)]
pub struct RandomBlur {
    /// Probability.
    pub prob: f64,
    /// Smallest radius, at least 0.
    pub min_radius: f64,
    /// Largest radius.
    pub max_radius: f64,
}

impl RandomBlur {
    pub(super) fn sample(&self, stream: &mut Stream, steps: &mut Vec<Step>) {
        if stream.gate(self.prob) {
            steps.push(Step::Blur { radius: stream.range(self.min_radius, self.max_radius) });
        }
    }
}

/// Box filters per axis.
const PASSES: usize = 3;

/// A box filter of `2 reach + 1` whole pixels and a part of the next one on each side. Weights in units of 2^-24.
#[derive(Debug, Clone, Copy)]
struct BoxFilter {
    reach: usize,
    whole: u32,
    part: u32,
}

impl BoxFilter {
    /// The filter of which three in a row have the standard deviation `radius`. f32 and f64 mixed like in PIL's C source.
    fn for_deviation(radius: f64) -> Self {
        let variance = radius as f32 * radius as f32 / PASSES as f32;
        let length = (12.0 * f64::from(variance) + 1.0).sqrt() as f32;
        let l = ((f64::from(length) - 1.0) / 2.0).floor() as f32;
        let rest = (2.0 * l + 1.0) * (l * (l + 1.0) - 3.0 * variance) / (6.0 * (variance - (l + 1.0) * (l + 1.0)));
        let size = l + rest;
        let (reach, whole) = (size as usize, (16_777_216.0 / (size * 2.0 + 1.0)) as u32);
        Self { reach, whole, part: (16_777_216 - (2 * reach as u32 + 1) * whole) / 2 }
    }

    /// `out[i]` = weighted sum of `taps[..][i]`, the first and last tap being the partial ones. Taps may be longer than `out`.
    fn combine<'a>(self, tap: impl Fn(usize) -> &'a [u8], sums: &mut Vec<u32>, out: &mut [u8]) {
        let last = 2 * self.reach + 2;
        match self.reach {
            0 => weigh([0, 1, 2].map(tap), self, out),
            1 => weigh([0, 1, 2, 3, 4].map(tap), self, out),
            _ => {
                sums.clear();
                sums.resize(out.len(), 0);
                (1..last).for_each(|k| add(sums, tap(k)));
                weigh_sums(sums, tap(0), tap(last), self, out);
            }
        }
    }
}

/// PIL's `GaussianBlur(radius)`: three passes along the rows, then three along the columns, each rounded to 8 bits; the border
/// pixels repeat outwards. `radius` is the standard deviation in pixels; at most 2 in the recipes, cost grows with it.
pub fn blur(planes: &mut Planes<'_>, radius: f64, scratch: &mut Scratch) {
    let filter = BoxFilter::for_deviation(radius);
    let (width, area) = (planes.width, planes.height * planes.width);
    if area == 0 || radius <= 0.0 {
        return;
    }
    let Scratch { padded, sums, spare, .. } = scratch;
    for row in planes.bytes().chunks_exact_mut(width) {
        for _ in 0..PASSES {
            pad(row, filter.reach + 1, padded);
            filter.combine(|k| &padded[k..], sums, row);
        }
    }
    let (a, b) = {
        spare.resize(2 * area, 0);
        spare.split_at_mut(area)
    };
    for plane in planes.channels() {
        vertical(filter, plane, a, width, sums);
        vertical(filter, a, b, width, sums);
        vertical(filter, b, plane, width, sums);
    }
}

/// One pass along the columns.
fn vertical(filter: BoxFilter, from: &[u8], to: &mut [u8], width: usize, sums: &mut Vec<u32>) {
    let last = to.len() / width - 1;
    for (y, out) in to.chunks_exact_mut(width).enumerate() {
        let tap = |k: usize| {
            let row = (y + k).saturating_sub(filter.reach + 1).min(last);
            &from[row * width..][..width]
        };
        filter.combine(tap, sums, out);
    }
}

/// `row` with its first and last pixel repeated `by` times outwards.
fn pad(row: &[u8], by: usize, padded: &mut Vec<u8>) {
    padded.clear();
    padded.resize(by, row[0]);
    padded.extend_from_slice(row);
    padded.resize(row.len() + 2 * by, row[row.len() - 1]);
}

#[inline(always)]
fn rounded(filter: BoxFilter, inner: u32, outer: u32) -> u8 {
    ((inner * filter.whole + outer * filter.part + (1 << 23)) >> 24) as u8
}

/// The narrow filters, which are all that the recipes have: reach 0 or 1, three or five taps.
fn weigh<const TAPS: usize>(taps: [&[u8]; TAPS], filter: BoxFilter, out: &mut [u8]) {
    let taps = taps.map(|tap| &tap[..out.len()]);
    #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut))]
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the feature was detected on this processor.
        done = unsafe { avx2::weigh(taps, filter, out) };
    }
    for x in done..out.len() {
        let inner = taps[1..TAPS - 1].iter().map(|tap| u32::from(tap[x])).sum();
        out[x] = rounded(filter, inner, u32::from(taps[0][x]) + u32::from(taps[TAPS - 1][x]));
    }
}

widened! {
    fn weigh_sums(inner: &[u32], first: &[u8], last: &[u8], filter: BoxFilter, out: &mut [u8]) {
        for (((o, &a), &sum), &c) in out.iter_mut().zip(first).zip(inner).zip(last) {
            *o = rounded(filter, sum, u32::from(a) + u32::from(c));
        }
    }
}

widened! {
    fn add(sums: &mut [u32], row: &[u8]) {
        for (sum, &v) in sums.iter_mut().zip(row) {
            *sum += u32::from(v);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::BoxFilter;

    /// The same integers as [`super::rounded`] by 16-bit multiplications of the high and low parts of the weights, which are
    /// several times faster than 32-bit ones. Writes whole blocks of 16 and returns how many bytes that were.
    #[target_feature(enable = "avx2")]
    pub(super) fn weigh<const TAPS: usize>(taps: [&[u8]; TAPS], filter: BoxFilter, out: &mut [u8]) -> usize {
        // Pairs (inner weight, outer weight) of i16.
        let pair = |inner: u32, outer: u32| _mm256_set1_epi32((inner | outer << 16) as i32);
        let high = pair(filter.whole >> 12, filter.part >> 12);
        let low = pair(filter.whole & 0xfff, filter.part & 0xfff);
        let blocks = out.as_chunks_mut::<16>().0;
        for (i, block) in blocks.iter_mut().enumerate() {
            let words = |tap: &[u8]| {
                let bytes: &[u8; 16] = tap[16 * i..].first_chunk().expect("taps are as long as the result");
                // SAFETY: reads the 16 bytes borrowed above.
                _mm256_cvtepu8_epi16(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
            };
            let inner = taps[2..TAPS - 1].iter().fold(words(taps[1]), |sum, tap| _mm256_add_epi16(sum, words(tap)));
            let outer = _mm256_add_epi16(words(taps[0]), words(taps[TAPS - 1]));
            let level = |pairs| {
                let sum = _mm256_slli_epi32::<12>(_mm256_madd_epi16(pairs, high));
                let sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, low));
                _mm256_srli_epi32::<24>(_mm256_add_epi32(sum, _mm256_set1_epi32(1 << 23)))
            };
            let levels =
                _mm256_packus_epi32(level(_mm256_unpacklo_epi16(inner, outer)), level(_mm256_unpackhi_epi16(inner, outer)));
            let bytes = _mm_packus_epi16(_mm256_castsi256_si128(levels), _mm256_extracti128_si256::<1>(levels));
            // SAFETY: writes the 16 bytes of the block.
            unsafe { _mm_storeu_si128(block.as_mut_ptr().cast(), bytes) };
        }
        16 * blocks.len()
    }
}

/// The sampled Gaussian on levels 0..1: `[3, height, width]` f32. `kernel` odd taps whose weights sum to 1; the border is
/// reflected without repeating the edge pixel. What torchvision computes on tensors; no recipe uses it.
pub fn tensor_gaussian_blur(image: &RgbImage, kernel: usize, deviation: f64) -> Vec<f32> {
    let (height, width) = (image.height, image.width);
    let half = kernel / 2;
    let weight = |k: usize| libm::exp(-0.5 * ((k as f64 - half as f64) / deviation).powi(2));
    let total: f64 = (0..2 * half + 1).map(weight).sum();
    let weights: Vec<f64> = (0..2 * half + 1).map(|k| weight(k) / total).collect();
    let along = |at: usize, size: usize, value: &dyn Fn(usize) -> f64| -> f64 {
        weights.iter().enumerate().map(|(k, w)| w * value(reflected(at as isize + k as isize - half as isize, size))).sum()
    };
    let mut out = Vec::with_capacity(3 * height * width);
    for c in 0..3 {
        let level = |y: usize, x: usize| f64::from(image.pixels[(y * width + x) * 3 + c]) / 255.0;
        let rows: Vec<f64> = (0..height * width).map(|i| along(i % width, width, &|x| level(i / width, x))).collect();
        out.extend((0..height * width).map(|i| along(i / width, height, &|y| rows[y * width + i % width]) as f32));
    }
    out
}

/// Index of a pixel beyond the border, mirrored at the edge pixel as often as needed.
fn reflected(at: isize, size: usize) -> usize {
    let last = size as isize - 1;
    if last == 0 {
        return 0;
    }
    let folded = at.rem_euclid(2 * last);
    folded.min(2 * last - folded) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A box filter pass straight from its definition, with one pixel at a time.
    fn plain_pass(line: &[u8], f: BoxFilter) -> Vec<u8> {
        let at = |i: isize| u32::from(line[i.clamp(0, line.len() as isize - 1) as usize]);
        let r = f.reach as isize;
        let one = |i: isize| rounded(f, (i - r..=i + r).map(at).sum(), at(i - r - 1) + at(i + r + 1));
        (0..line.len() as isize).map(one).collect()
    }

    #[test]
    fn equals_the_definition_for_small_and_large_radii() {
        for (height, width, radius) in [(1, 1, 0.7), (5, 9, 0.1), (17, 6, 1.9), (8, 40, 5.0), (3, 3, 20.0)] {
            let before: Vec<u8> = (0..3 * height * width).map(|i| (i * i * 31 % 251) as u8).collect();
            let mut data = before.clone();
            blur(&mut Planes::new(height, width, &mut data), radius, &mut Scratch::default());
            let filter = BoxFilter::for_deviation(radius);
            let thrice = |line: Vec<u8>| (0..PASSES).fold(line, |line, _| plain_pass(&line, filter));
            for (plane, got) in before.chunks(height * width).zip(data.chunks(height * width)) {
                let rows: Vec<u8> = plane.chunks(width).flat_map(|row| thrice(row.to_vec())).collect();
                for x in 0..width {
                    let column = |data: &[u8]| data[x..].iter().step_by(width).copied().collect::<Vec<u8>>();
                    assert_eq!(column(got), thrice(column(&rows)), "{height}x{width}, radius {radius}, column {x}");
                }
            }
        }
    }

    #[test]
    fn the_border_is_reflected_without_its_pixel() {
        let folded: Vec<usize> = (-4..8).map(|i| reflected(i, 4)).collect();
        assert_eq!(folded, [2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1]);
    }
}
