//! Resizing with antialiasing, to the bit like PIL on 8-bit images (until version 12; later ones swap the passes where the
//! height shrinks much more than the width, which moves some levels by one).
//!
//! Per axis a filter of support max(scale, 1) x its own; weights renormalised at the borders and rounded to 22 bits; first
//! along the rows, rounded to 8 bits, then along the columns.

use serde::{Deserialize, Serialize};

use super::crop::CropBox;
use super::planes::Planes;
use super::shrink::{PADDING, shrink_rows};
use crate::data::RgbImage;
use crate::simd::widened;

/// The resampling filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// Triangle.
    Bilinear,
    /// Keys' cubic with a = -1/2.
    Bicubic,
}

impl Filter {
    fn support(self) -> f64 {
        match self {
            Filter::Bilinear => 1.0,
            Filter::Bicubic => 2.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let x = x.abs();
        match self {
            Filter::Bilinear => (1.0 - x).max(0.0),
            Filter::Bicubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
            Filter::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5,
            Filter::Bicubic => 0.0,
        }
    }
}

/// The geometry of a view: the pixels of `area` are resized to `resized`, of which `keep` is the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// The part of the image that is read; nothing outside it has an influence.
    pub area: CropBox,
    /// Height and width to which it is resized.
    pub resized: (usize, usize),
    /// The part of the resized pixels that is kept.
    pub keep: CropBox,
    /// How.
    pub filter: Filter,
}

impl Window {
    /// `area` resized to the whole view.
    pub fn fill(area: CropBox, view: (usize, usize), filter: Filter) -> Self {
        Self { area, resized: view, keep: CropBox::at(0, 0, view.0, view.1), filter }
    }
}

/// Reused buffers: the weights of both axes, two padded source rows, the rows after the first pass, one finished row.
#[derive(Debug, Default)]
pub struct ResampleScratch {
    across: Taps,
    down: Taps,
    padded: [Vec<u8>; 2],
    rows: Vec<u8>,
    row: Vec<u8>,
}

/// Bits of the weights' fraction.
pub(super) const PRECISION: u32 = 22;
pub(super) const HALF: i32 = 1 << (PRECISION - 1);
/// Bits of the low part where a weight is split in two.
pub(super) const SPLIT: u32 = 11;
/// Columns that are summed together in registers.
const LANES: usize = 32;

/// The weights of one axis: output pixel i reads `count` pixels from `starts[i]` on. Padded with zero weights to equal counts.
#[derive(Debug, Default)]
pub(super) struct Taps {
    pub(super) count: usize,
    pub(super) starts: Vec<usize>,
    pub(super) weights: Vec<i32>,
    /// Per two weights (the last of an odd count with zero) their high and their low parts as pairs of i16.
    pub(super) pairs: Vec<[i32; 2]>,
}

impl Taps {
    /// For output pixels `keep` of `out` pixels resized from `size` pixels.
    pub(super) fn fill(&mut self, size: usize, out: usize, keep: std::ops::Range<usize>, filter: Filter) {
        let scale = size as f64 / out as f64;
        let support = if size == out { 0.5 } else { filter.support() * scale.max(1.0) };
        let (stretch, weight) = (1.0 / scale.max(1.0), |x: f64| if size == out { 1.0 } else { filter.weight(x) });
        let bounds = |i: usize| {
            let centre = (i as f64 + 0.5) * scale;
            ((centre - support + 0.5).max(0.0) as usize, ((centre + support + 0.5) as usize).min(size), centre)
        };
        self.count = keep.clone().map(bounds).map(|(first, end, _)| end - first).max().unwrap_or(1);
        self.starts.clear();
        self.weights.clear();
        self.weights.resize(keep.len() * self.count, 0);
        for (i, weights) in keep.zip(self.weights.chunks_exact_mut(self.count)) {
            let (first, end, centre) = bounds(i);
            // Moved back where the padding would pass the end.
            let start = first.min(size - self.count);
            let raw = |x: usize| weight((x as f64 - centre + 0.5) * stretch);
            let total: f64 = (first..end).map(raw).sum();
            for x in first..end {
                weights[x - start] = (raw(x) / total * f64::from(1 << PRECISION)).round() as i32;
            }
            self.starts.push(start);
        }
        let pack = |first: i32, second: i32| first & 0xffff | second << 16;
        self.pairs.clear();
        self.pairs.extend(self.weights.chunks_exact(self.count).flat_map(|weights| weights.chunks(2)).map(|two| {
            let (a, b) = (two[0], two.get(1).copied().unwrap_or(0));
            let low = (1 << SPLIT) - 1;
            [pack(a >> SPLIT, b >> SPLIT), pack(a & low, b & low)]
        }));
    }
}

/// Resizes `window` of `image` into `view`, whose size is that of `window.keep`. Panics if `window.area` is empty or exceeds the
/// image.
pub fn resample(image: &RgbImage, window: &Window, view: &mut Planes<'_>, scratch: &mut ResampleScratch) {
    let Window { area, resized, keep, filter } = *window;
    assert!(
        area.y0 < area.y1 && area.y1 <= image.height && area.x0 < area.x1 && area.x1 <= image.width,
        "{area:?} exceeds the image"
    );
    assert_eq!((keep.height(), keep.width()), (view.height, view.width), "the window fills the view");
    let ResampleScratch { across, down, padded, rows, row } = scratch;
    across.fill(area.width(), resized.1, keep.x0..keep.x1, filter);
    down.fill(area.height(), resized.0, keep.y0..keep.y1, filter);

    // First pass: only the rows that the second one reads.
    let (Some(&top), Some(&bottom)) = (down.starts.first(), down.starts.last()) else { return };
    let stride = (3 * view.width + 1).next_multiple_of(LANES);
    let height = bottom + down.count - top;
    rows.resize(height.next_multiple_of(2) * stride, 0);
    for (y, out) in (0..height).step_by(2).zip(rows.chunks_exact_mut(2 * stride)) {
        for (y, padded) in [y, (y + 1).min(height - 1)].into_iter().zip(padded.iter_mut()) {
            let row = (area.y0 + top + y) * image.width;
            padded.clear();
            padded.extend_from_slice(&image.pixels[3 * (row + area.x0)..3 * (row + area.x1)]);
            padded.extend_from_slice(&[0; PADDING]);
        }
        shrink_rows([&padded[0], &padded[1]], across, out.split_at_mut(stride).into());
    }

    row.resize(stride, 0);
    for (y, (&start, weights)) in down.starts.iter().zip(down.weights.chunks_exact(down.count)).enumerate() {
        blend_rows(&rows[(start - top) * stride..][..down.count * stride], weights, row);
        view.set_row(y, &row[..3 * view.width]);
    }
}

/// A weighted sum as a level.
#[inline(always)]
pub(super) fn level(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

widened! {
    /// Weighted sum of `weights.len()` rows of `out.len()` bytes each.
    fn blend_rows(rows: &[u8], weights: &[i32], out: &mut [u8]) {
        let stride = out.len();
        for (i, out) in out.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            let mut sums = [HALF; LANES];
            for (row, &weight) in rows.chunks_exact(stride).zip(weights) {
                let part: &[u8; LANES] = row[i * LANES..].first_chunk().expect("rows are whole chunks");
                for (sum, &v) in sums.iter_mut().zip(part) {
                    *sum += weight * i32::from(v);
                }
            }
            for (byte, &sum) in out.iter_mut().zip(&sums) {
                *byte = level(sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::resized_crop;

    fn pattern(height: usize, width: usize) -> RgbImage {
        RgbImage { height, width, pixels: (0..3 * height * width).map(|i| ((i * i * 37 + 11 * i) % 251) as u8).collect() }
    }

    /// Golden levels: torchvision 0.29 `resized_crop` with bicubic interpolation on a PIL image, down and up.
    #[test]
    fn bicubic_is_that_of_pil() {
        let image = pattern(9, 11);
        assert_eq!(resized_crop(&image, CropBox::at(1, 2, 7, 8), (4, 5), Filter::Bicubic).pixels, DOWN);
        assert_eq!(resized_crop(&image, CropBox::at(1, 2, 3, 4), (4, 5), Filter::Bicubic).pixels, UP);
    }

    #[rustfmt::skip]
    const DOWN: [u8; 60] = [
        169, 165, 112, 127, 152, 159, 177, 154, 90, 133, 123, 152, 96, 109, 144, 121, 146, 112, 68, 82,
        119, 127, 163, 108, 150, 128, 134, 149, 85, 165, 174, 112, 137, 157, 82, 113, 154, 136, 103, 169,
        199, 72, 156, 117, 93, 106, 140, 136, 48, 112, 73, 77, 80, 44, 107, 142, 85, 144, 133, 132,
    ];
    #[rustfmt::skip]
    const UP: [u8; 60] = [
        240, 153, 154, 235, 111, 92, 169, 186, 118, 133, 186, 182, 188, 1, 188, 128, 172, 131, 158, 174,
        88, 122, 172, 160, 109, 157, 194, 184, 134, 75, 118, 212, 107, 92, 166, 100, 52, 92, 145, 83,
        93, 150, 186, 192, 68, 215, 250, 96, 78, 93, 122, 5, 0, 81, 70, 35, 77, 194, 139, 171,
    ];

    #[test]
    fn nothing_outside_the_area_has_an_influence() {
        let mut image = pattern(12, 17);
        let area = CropBox::at(3, 4, 5, 7);
        let before = resized_crop(&image, area, (9, 4), Filter::Bicubic);
        for (i, pixel) in image.pixels.chunks_exact_mut(3).enumerate() {
            if !((area.y0..area.y1).contains(&(i / 17)) && (area.x0..area.x1).contains(&(i % 17))) {
                pixel.fill(255);
            }
        }
        assert_eq!(resized_crop(&image, area, (9, 4), Filter::Bicubic), before);
    }

    #[test]
    fn an_unchanged_size_copies() {
        let image = pattern(6, 35);
        for filter in [Filter::Bilinear, Filter::Bicubic] {
            assert_eq!(resized_crop(&image, CropBox::at(0, 0, 6, 35), (6, 35), filter), image);
        }
    }
}
