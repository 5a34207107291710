//! One concrete operation on the pixels of a view.

use std::cell::RefCell;

use serde::{Deserialize, Serialize};

use super::planes::{Planes, planes_of};
use super::resample::{Filter, ResampleScratch, Window, resample};
use super::{CropBox, blur, flip, gray, hue, jitter, solarize};
use crate::data::RgbImage;

/// An operation with all its parameters drawn. It keeps the size of the image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Factor on the distance from black.
    Brightness(f64),
    /// Factor on the distance from the mean grey of the image.
    Contrast(f64),
    /// Factor on the distance from the grey of the pixel.
    Saturation(f64),
    /// Shift of the hue in turns, -0.5..=0.5.
    Hue(f64),
    /// Three equal channels.
    Gray,
    /// PIL's approximation of a Gaussian blur.
    Blur {
        /// Standard deviation in pixels.
        radius: f64,
    },
    /// Left and right exchanged.
    Flip,
    /// Bright pixels inverted.
    Solarize {
        /// First level that is inverted.
        threshold: u8,
    },
}

/// Buffers that one thread reuses from view to view.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) resample: ResampleScratch,
    pub(super) source: Vec<u8>,
    pub(super) padded: Vec<u8>,
    pub(super) sums: Vec<u32>,
    pub(super) spare: Vec<u8>,
}

impl Scratch {
    /// Runs `work` with the buffers of this thread. Not to be nested.
    pub(super) fn with<T>(work: impl FnOnce(&mut Self) -> T) -> T {
        thread_local!(static SCRATCH: RefCell<Scratch> = RefCell::default());
        SCRATCH.with_borrow_mut(work)
    }
}

impl Step {
    /// Carries the step out in place.
    pub fn run(&self, planes: &mut Planes<'_>, scratch: &mut Scratch) {
        match *self {
            Step::Brightness(factor) => jitter::brightness(planes, factor),
            Step::Contrast(factor) => jitter::contrast(planes, factor),
            Step::Saturation(factor) => jitter::saturation(planes, factor),
            Step::Hue(turns) => hue::hue(planes, turns),
            Step::Gray => gray::gray(planes),
            Step::Blur { radius } => blur::blur(planes, radius, scratch),
            Step::Flip => flip::flip(planes),
            Step::Solarize { threshold } => solarize::solarize(planes, threshold),
        }
    }
}

/// A copy of `image` after `steps`.
pub fn adjusted(image: &RgbImage, steps: &[Step]) -> RgbImage {
    let mut buffer = Vec::new();
    let mut planes = planes_of(image, &mut buffer);
    Scratch::with(|scratch| steps.iter().for_each(|step| step.run(&mut planes, scratch)));
    planes.to_image()
}

/// The pixels of `area`, resized to `size` (height, width).
pub fn resized_crop(image: &RgbImage, area: CropBox, size: (usize, usize), filter: Filter) -> RgbImage {
    let mut buffer = vec![0; 3 * size.0 * size.1];
    let mut view = Planes::new(size.0, size.1, &mut buffer);
    Scratch::with(|scratch| resample(image, &Window::fill(area, size, filter), &mut view, &mut scratch.resample));
    view.to_image()
}
