//! Pixel boxes and the random resized crop.

use serde::{Deserialize, Serialize};

use super::resample::{Filter, Window};
use crate::rng::Stream;

/// A half-open box of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CropBox {
    /// First row.
    pub y0: usize,
    /// First column.
    pub x0: usize,
    /// Row after the last.
    pub y1: usize,
    /// Column after the last.
    pub x1: usize,
}

impl CropBox {
    /// A box of `height` x `width` pixels at (`y0`, `x0`).
    pub fn at(y0: usize, x0: usize, height: usize, width: usize) -> Self {
        Self { y0, x0, y1: y0 + height, x1: x0 + width }
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.y1 - self.y0
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.x1 - self.x0
    }
}

/// Crops a random part of the image and resizes it to the view (torchvision's `RandomResizedCrop`): a share of the area
/// U[min_area, max_area), an aspect ratio w/h log-uniform in 3/4 .. 4/3, up to ten attempts until the box fits.
#[derive(Debug, Clone, PartialEq)]
pub struct RandomResizedCrop {
    /// Smallest share of the image's area.
    pub min_area: f64,
    /// Largest share of the image's area.
    pub max_area: f64,
    /// How the part is resized.
    pub filter: Filter,
}

const ATTEMPTS: usize = 10;
const MIN_RATIO: f64 = 3.0 / 4.0;
const MAX_RATIO: f64 = 4.0 / 3.0;

impl RandomResizedCrop {
    /// The part of an image of `height` x `width` pixels. Draws area, aspect ratio (per attempt), then y0, x0.
    pub fn sample(&self, stream: &mut Stream, height: usize, width: usize) -> CropBox {
        for _ in 0..ATTEMPTS {
            let area = stream.range(self.min_area, self.max_area);
            let log_ratio = stream.range(libm::log(MIN_RATIO), libm::log(MAX_RATIO));
            let (h, w) = attempt(height, width, area, log_ratio);
            if fits(h, height) && fits(w, width) {
                let y0 = stream.below((height - h + 1) as u64) as usize;
                let x0 = stream.below((width - w + 1) as u64) as usize;
                return CropBox::at(y0, x0, h, w);
            }
        }
        fallback(height, width)
    }

    pub(super) fn window(&self, stream: &mut Stream, image: (usize, usize), view: (usize, usize)) -> Window {
        Window::fill(self.sample(stream, image.0, image.1), view, self.filter)
    }
}

/// Height and width of the box for one draw of area share and ln(w/h); it need not fit the image.
pub fn attempt(height: usize, width: usize, area: f64, log_ratio: f64) -> (usize, usize) {
    let (pixels, ratio) = ((height * width) as f64 * area, libm::exp(log_ratio));
    let side = |square: f64| libm::sqrt(square).round_ties_even() as usize;
    (side(pixels / ratio), side(pixels * ratio))
}

/// Whether a side of the box is acceptable for a side of the image.
pub fn fits(side: usize, image_side: usize) -> bool {
    0 < side && side <= image_side
}

/// The box taken when no attempt fits: the largest centred one of the nearest allowed aspect ratio.
pub fn fallback(height: usize, width: usize) -> CropBox {
    let ratio = width as f64 / height as f64;
    let (h, w) = if ratio < MIN_RATIO {
        ((width as f64 / MIN_RATIO).round_ties_even() as usize, width)
    } else if ratio > MAX_RATIO {
        (height, (height as f64 * MAX_RATIO).round_ties_even() as usize)
    } else {
        (height, width)
    };
    CropBox::at((height - h) / 2, (width - w) / 2, h, w)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    #[test]
    fn areas_and_ratios_stay_in_range_and_spread_over_it() {
        let crop = RandomResizedCrop { min_area: 0.2, max_area: 1.0, filter: Filter::Bilinear };
        let mut stream = Stream::new(3, Purpose::View, &[0, 0, 0]);
        let (height, width) = (400, 500);
        let mut shares = Vec::new();
        for _ in 0..4000 {
            let b = crop.sample(&mut stream, height, width);
            assert!(b.y1 <= height && b.x1 <= width);
            let (ratio, share) = (b.width() as f64 / b.height() as f64, (b.width() * b.height()) as f64 / 2e5);
            assert!((0.74..1.345).contains(&ratio), "{ratio}");
            assert!((0.198..1.001).contains(&share), "{share}");
            shares.push(share);
        }
        shares.sort_by(f64::total_cmp);
        // Quartiles of torchvision's rule for this size: attempts that do not fit thin the large areas.
        for (at, want) in [(1000, 0.351), (2000, 0.502), (3000, 0.659)] {
            assert!((shares[at] - want).abs() < 0.025, "{} at {at}, want {want}", shares[at]);
        }
    }

    #[test]
    fn thin_and_tiny_images_have_a_box() {
        let crop = RandomResizedCrop { min_area: 0.08, max_area: 1.0, filter: Filter::Bilinear };
        let mut stream = Stream::new(4, Purpose::View, &[]);
        for (height, width) in [(1, 1), (1, 900), (900, 1), (2, 3), (3, 41)] {
            let b = crop.sample(&mut stream, height, width);
            assert!(b.y0 < b.y1 && b.x0 < b.x1 && b.y1 <= height && b.x1 <= width, "{b:?} of {height}x{width}");
        }
    }
}
