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
    let side = (1.0 - lambda).sqrt();
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
