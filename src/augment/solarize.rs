//! Solarization (BYOL): inverts the bright pixels.

use super::planes::Planes;
use super::step::Step;
use crate::rng::Stream;
use crate::simd::widened;

/// Solarizes with probability `prob`.
#[derive(Debug, Clone, PartialEq)]
pub struct RandomSolarize {
    /// Probability.
    pub prob: f64,
    /// First level that is inverted.
    pub threshold: u8,
}

impl RandomSolarize {
    pub(super) fn sample(&self, stream: &mut Stream, steps: &mut Vec<Step>) {
        if stream.gate(self.prob) {
            steps.push(Step::Solarize { threshold: self.threshold });
        }
    }
}

/// Levels from `threshold` on become 255 minus themselves.
pub fn solarize(planes: &mut Planes<'_>, threshold: u8) {
    invert_from(planes.bytes(), threshold);
}

widened! {
    fn invert_from(bytes: &mut [u8], threshold: u8) {
        for v in bytes {
            *v = if *v >= threshold { 255 - *v } else { *v };
        }
    }
}
