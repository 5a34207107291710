//! Conversion to grey.

use super::planes::Planes;
use super::step::Step;
use crate::rng::Stream;
use crate::simd::widened;

/// Replaces the colours by their grey with probability `prob`.
#[derive(Debug, Clone, PartialEq)]
pub struct RandomGray {
    /// Probability.
    pub prob: f64,
}

impl RandomGray {
    pub(super) fn sample(&self, stream: &mut Stream, steps: &mut Vec<Step>) {
        if stream.gate(self.prob) {
            steps.push(Step::Gray);
        }
    }
}

/// ITU-R 601-2 luma in 16-bit fixed point: (19595 R + 38470 G + 7471 B + 32768) >> 16.
#[inline(always)]
pub(super) fn luma(red: u8, green: u8, blue: u8) -> u32 {
    (19_595 * u32::from(red) + 38_470 * u32::from(green) + 7_471 * u32::from(blue) + 32_768) >> 16
}

/// Three equal channels of the ITU-R 601-2 luma, in the integer form of PIL.
pub fn gray(planes: &mut Planes<'_>) {
    let [red, green, blue] = planes.channels();
    spread(red, green, blue);
}

widened! {
    fn spread(red: &mut [u8], green: &mut [u8], blue: &mut [u8]) {
        for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
            let grey = luma(*r, *g, *b) as u8;
            (*r, *g, *b) = (grey, grey, grey);
        }
    }
}
