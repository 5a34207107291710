//! Horizontal mirror.

use crate::augment::planes::Planes;
use crate::rng::Stream;

use super::step::Step;

/// Mirrors left and right with probability `prob`.
#[derive(Debug, Clone, PartialEq)]
pub struct RandomFlip {
    /// Probability.
    pub prob: f64,
}

impl RandomFlip {
    pub(super) fn sample(&self, stream: &mut Stream, steps: &mut Vec<Step>) {
        if stream.gate(self.prob) {
            steps.push(Step::Flip);
        }
    }
}

/// Mirrors every row.
pub fn flip(planes: &mut Planes<'_>) {
    let width = planes.width.max(1);
    planes.bytes().chunks_exact_mut(width).for_each(<[u8]>::reverse);
}
