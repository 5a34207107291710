//! Colour jitter: brightness, contrast, saturation and hue in random order (torchvision's `ColorJitter` on 8-bit images).

use super::gray::luma;
use super::planes::Planes;
use super::step::Step;
use crate::rng::Stream;
use crate::simd::widened;

/// Applies the four adjustments in random order with probability `prob`.
///
/// The factors of brightness, contrast and saturation are U[max(0, 1 - s), 1 + s] for their strength s, that of hue is U[-s, s].
#[derive(Debug, Clone, PartialEq)]
pub struct ColorJitter {
    /// Probability that the four are applied.
    pub prob: f64,
    /// Strength of the brightness factor.
    pub brightness: f64,
    /// Strength of the contrast factor.
    pub contrast: f64,
    /// Strength of the saturation factor.
    pub saturation: f64,
    /// Largest shift of the hue, in turns, at most 0.5.
    pub hue: f64,
}

impl ColorJitter {
    /// Draws the gate, then the order, then the four factors.
    pub(super) fn sample(&self, stream: &mut Stream, steps: &mut Vec<Step>) {
        if !stream.gate(self.prob) {
            return;
        }
        let order = stream.permutation(4);
        let mut factor = |strength: f64| stream.range((1.0 - strength).max(0.0), 1.0 + strength);
        let (brightness, contrast, saturation) = (factor(self.brightness), factor(self.contrast), factor(self.saturation));
        let hue = stream.range(-self.hue, self.hue);
        let drawn = [Step::Brightness(brightness), Step::Contrast(contrast), Step::Saturation(saturation), Step::Hue(hue)];
        steps.extend(order.iter().map(|&i| drawn[i as usize].clone()));
    }
}

/// Moves every level away from (factor > 1) or towards (factor < 1) black. Panics if the factor is not finite, like the next two.
pub fn brightness(planes: &mut Planes<'_>, factor: f64) {
    blend_level(planes.bytes(), 0.0, level_factor(factor));
}

/// Moves every level away from or towards the mean grey of the image, which is rounded to a whole level.
pub fn contrast(planes: &mut Planes<'_>, factor: f64) {
    let area = planes.height * planes.width;
    let [red, green, blue] = planes.channels();
    let mean = luma_sum(red, green, blue) as f64 / area.max(1) as f64;
    blend_level(planes.bytes(), (mean + 0.5).floor() as f32, level_factor(factor));
}

/// Moves every pixel away from or towards its own grey.
pub fn saturation(planes: &mut Planes<'_>, factor: f64) {
    let [red, green, blue] = planes.channels();
    blend_luma(red, green, blue, level_factor(factor));
}

/// The factor as PIL computes with it. Panics if it is not finite or beyond any sense.
fn level_factor(factor: f64) -> f32 {
    assert!(factor.abs() <= 1e6, "{factor} is no factor of a colour");
    factor as f32
}

/// trunc(clip(base + factor (v - base))) in f32, each operation rounded, like the C source of PIL.
#[inline(always)]
fn blend(base: f32, v: u8, factor: f32) -> u8 {
    let level = base + factor * (f32::from(v) - base);
    // SAFETY: `level_factor` keeps the factor, and so the level, far inside the integers.
    unsafe { level.to_int_unchecked::<i32>().clamp(0, 255) as u8 }
}

widened! {
    fn blend_level(bytes: &mut [u8], base: f32, factor: f32) {
        for v in bytes {
            *v = blend(base, *v, factor);
        }
    }
}

widened! {
    fn blend_luma(red: &mut [u8], green: &mut [u8], blue: &mut [u8], factor: f32) {
        for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
            let grey = luma(*r, *g, *b) as f32;
            (*r, *g, *b) = (blend(grey, *r, factor), blend(grey, *g, factor), blend(grey, *b, factor));
        }
    }
}

widened! {
    fn luma_sum(red: &[u8], green: &[u8], blue: &[u8]) -> u64 {
        // Blocks whose sum fits 32 bits keep the inner loop narrow.
        const BLOCK: usize = 1 << 16;
        let blocks = red.chunks(BLOCK).zip(green.chunks(BLOCK)).zip(blue.chunks(BLOCK));
        blocks.map(|((r, g), b)| u64::from(r.iter().zip(g).zip(b).map(|((&r, &g), &b)| luma(r, g, b)).sum::<u32>())).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_factor_of_one_changes_nothing_and_of_zero_leaves_the_base() {
        let before: Vec<u8> = (0..60).map(|i| (i * 29 % 251) as u8).collect();
        let run = |operation: fn(&mut Planes<'_>, f64), factor| {
            let mut data = before.clone();
            operation(&mut Planes::new(4, 5, &mut data), factor);
            data
        };
        for operation in [brightness, contrast, saturation] {
            assert_eq!(run(operation, 1.0), before);
        }
        assert_eq!(run(brightness, 0.0), [0; 60]);
        let mean = run(contrast, 0.0);
        assert!(mean.iter().all(|&v| v == mean[0]));
        let grey = run(saturation, 0.0);
        assert!((0..20).all(|i| grey[i] == grey[i + 20] && grey[i] == grey[i + 40]));
        assert_eq!(u32::from(grey[7]), luma(before[7], before[27], before[47]));
    }

    #[test]
    #[should_panic(expected = "no factor")]
    fn a_factor_that_is_no_number_is_refused() {
        brightness(&mut Planes::new(1, 1, &mut [1, 2, 3]), f64::NAN);
    }
}
