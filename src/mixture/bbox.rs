//! Boxes and the CutMix box rule.

use serde::{Deserialize, Serialize};

/// A half-open box in pixels: rows `y0..y1`, columns `x0..x1`. Written as `[y0, x0, y1, x1]`.
///
/// A box with `y0 == y1` or `x0 == x1` is legal and covers nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "[u32; 4]", into = "[u32; 4]")]
pub struct BBox {
    /// First row.
    pub y0: u32,
    /// First column.
    pub x0: u32,
    /// Row after the last.
    pub y1: u32,
    /// Column after the last.
    pub x1: u32,
}

impl BBox {
    /// Pixels covered.
    pub fn area(&self) -> u64 {
        u64::from(self.y1.saturating_sub(self.y0)) * u64::from(self.x1.saturating_sub(self.x0))
    }

    /// True when no pixel is covered.
    pub fn is_empty(&self) -> bool {
        self.area() == 0
    }

    /// True when the pixel of row `y` and column `x` is covered.
    pub fn contains(&self, y: usize, x: usize) -> bool {
        (self.y0 as usize..self.y1 as usize).contains(&y) && (self.x0 as usize..self.x1 as usize).contains(&x)
    }

    /// Row and column of the pixel that the box shows at (y, x) when a whole image of `h` x `w` pixels is scaled to it: `shown` along both axes.
    pub fn shows(&self, (h, w): (usize, usize), (y, x): (usize, usize)) -> (usize, usize) {
        let along = |at: usize, from: u32, to: u32, size: usize| shown(at as u32, from, to, size as u32) as usize;
        (along(y, self.y0, self.y1, h), along(x, self.x0, self.x1, w))
    }
}

/// The place, of `size`, that is seen at `at` when an axis of `size` pixels is scaled to `from..to`: `floor((at - from) size / (to - from))`.
///
/// Integers alone, so that every device finds the same pixel; torch's `nearest` in f32 differs in 18 of 32,464 places of common sizes. Outside
/// of `from..to`, where nothing is shown, the answer is the nearest place that is, and 0 for an empty range.
pub fn shown(at: u32, from: u32, to: u32, size: u32) -> u32 {
    let side = (to - from).max(1);
    let offset = at.saturating_sub(from).min(side - 1);
    offset * size / side
}

impl From<[u32; 4]> for BBox {
    fn from([y0, x0, y1, x1]: [u32; 4]) -> Self {
        Self { y0, x0, y1, x1 }
    }
}

impl From<BBox> for [u32; 4] {
    fn from(b: BBox) -> Self {
        [b.y0, b.x0, b.y1, b.x1]
    }
}

/// The box that `lambda` cuts from an image of `h` x `w` pixels around the centre `(cy, cx)`, with its unclipped sides
/// `(cut_h, cut_w)` (CutMix, arXiv 1905.04899, section 3.1).
///
/// The sides are `trunc(h * sqrt(1 - lambda))` and likewise with `w`, in f64: f32 misses products at whole numbers. The box reaches
/// half a side (floor division, so 7 gives 3) to each direction and is clipped to the image; it is thus up to one pixel smaller than
/// its sides, empty for a side below 2, and smaller again at the border. `lambda` in 0..=1, `cy < h`, `cx < w`.
pub fn cut_box(h: usize, w: usize, lambda: f64, cy: usize, cx: usize) -> (usize, usize, BBox) {
    side_box(h, w, (1.0 - lambda).sqrt(), cy, cx)
}

/// The box of [`cut_box`] with sides of `side` times those of the image, in 0..=1: the scale rate of ResizeMix (arXiv 2012.11101).
pub fn side_box(h: usize, w: usize, side: f64, cy: usize, cx: usize) -> (usize, usize, BBox) {
    let (cut_h, cut_w) = ((h as f64 * side) as usize, (w as f64 * side) as usize);
    let span = |centre: usize, cut: usize, limit: usize| {
        (centre.saturating_sub(cut / 2).min(limit) as u32, (centre + cut / 2).min(limit) as u32)
    };
    let ((y0, y1), (x0, x1)) = (span(cy, cut_h, h), span(cx, cut_w, w));
    (cut_h, cut_w, BBox { y0, x0, y1, x1 })
}

/// The part of an image of `h` x `w` pixels outside the box, in 0..=1.
pub fn kept_area(h: usize, w: usize, bbox: &BBox) -> f64 {
    1.0 - bbox.area() as f64 / (h * w) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};

    #[test]
    fn sides_are_halved_downwards_and_clipped_at_the_border() {
        // sqrt(1 - 0.51) = 0.7: sides 7 of 10 rows and 14 of 20 columns, of which 6 and 14 are used.
        assert_eq!(cut_box(10, 20, 0.51, 5, 9), (7, 14, BBox { y0: 2, x0: 2, y1: 8, x1: 16 }));
        assert_eq!(cut_box(10, 20, 0.51, 0, 19), (7, 14, BBox { y0: 0, x0: 12, y1: 3, x1: 20 }));
        assert_eq!(cut_box(10, 20, 1.0, 4, 4).2.area(), 0);
        assert_eq!(kept_area(10, 20, &BBox { y0: 2, x0: 2, y1: 8, x1: 16 }), 1.0 - 84.0 / 200.0);
    }

    /// Down to a half, to a third, and to itself; the ends of the box show the ends of the image at whole ratios.
    #[test]
    fn a_scaled_axis_shows_its_places_in_integers() {
        let axis = |from: u32, to: u32, size: u32| (from..to).map(|at| shown(at, from, to, size)).collect::<Vec<_>>();
        assert_eq!(axis(2, 6, 8), [0, 2, 4, 6]);
        assert_eq!(axis(1, 4, 10), [0, 3, 6]);
        assert_eq!(axis(0, 7, 10), [0, 1, 2, 4, 5, 7, 8]);
        assert_eq!((axis(0, 5, 5), axis(3, 4, 9)), ((0..5).collect(), vec![0]));
        assert_eq!([0, 1, 4, 9].map(|at| shown(at, 2, 5, 9)), [0, 0, 6, 6], "outside, the nearest place of the box");
        assert_eq!(shown(3, 3, 3, 9), 0, "an empty box shows nothing");
        assert_eq!(BBox { y0: 1, x0: 2, y1: 4, x1: 6 }.shows((10, 8), (3, 5)), (6, 6));
        assert_eq!(side_box(10, 20, 0.7, 5, 9), cut_box(10, 20, 0.51, 5, 9));
    }

    /// Mean pasted area and share of empty boxes over 200,000 draws of Beta(1, 1) with a uniform centre.
    fn statistics(h: usize, w: usize) -> (f64, f64) {
        let (n, mut area, mut empty) = (200_000, 0, 0);
        let mut stream = Stream::new(3, Purpose::Probe, &[h as u64]);
        for _ in 0..n {
            let lambda = stream.beta(1.0);
            let bbox = cut_box(h, w, lambda, stream.below(h as u64) as usize, stream.below(w as u64) as usize).2;
            area += bbox.area();
            empty += u64::from(bbox.is_empty());
        }
        (area as f64 / (n * h * w) as f64, empty as f64 / n as f64)
    }

    /// Not one half: clipping and the even sides shrink the box. An empty box needs `32 sqrt(1 - lambda) < 2`.
    #[test]
    fn the_mean_pasted_area_is_about_three_tenths() {
        let (small, empty) = statistics(32, 32);
        assert!((small - 0.299).abs() < 0.0025, "{small} at 32");
        assert!((empty - 1.0 / 256.0).abs() < 0.0006, "{empty} empty at 32");
        let (large, _) = statistics(224, 224);
        assert!((large - 0.317).abs() < 0.0025, "{large} at 224");
    }
}
