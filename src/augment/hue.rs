//! Hue shift through 8-bit HSV, to the bit like torchvision on a PIL image.

use super::planes::Planes;
use crate::simd::widened;

/// Shifts the hue by `turns` of the colour circle (-0.5..=0.5), which 8-bit HSV rounds towards zero to 1/255 turns.
///
/// Hue and saturation pass through 8 bits, so even a shift of zero changes the colours slightly.
pub fn hue(planes: &mut Planes<'_>, turns: f64) {
    let [red, green, blue] = planes.channels();
    shift_all(red, green, blue, (turns * 255.0) as i32 & 255);
}

widened! {
    fn shift_all(red: &mut [u8], green: &mut [u8], blue: &mut [u8], shift: i32) {
        for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
            (*r, *g, *b) = shifted(*r, *g, *b, shift);
        }
    }
}

/// The integer part.
#[inline(always)]
fn whole(x: f32) -> i32 {
    // SAFETY: every caller passes a finite value in 0..=256.
    unsafe { x.to_int_unchecked() }
}

/// One pixel, without branches. PIL mixes f32 and f64; these f32 operations round to the same levels for every colour (a test
/// counts). It matters: a hue that is off by one level moves a channel by up to six.
#[inline(always)]
fn shifted(r: u8, g: u8, b: u8, shift: i32) -> (u8, u8, u8) {
    let (r, g, b) = (i32::from(r), i32::from(g), i32::from(b));
    let (value, least) = (r.max(g).max(b), r.min(g).min(b));
    let range = value - least;
    let share = range as f32 / value.max(1) as f32;
    let saturation = whole(share * 255.0);

    // Position on the circle in sextants: an even base for the largest channel, one up or down by which one is smallest, and
    // back by how far the third is from the largest. One rounding, so the integers are added first.
    let (base, ahead) = if r == value {
        (0, b)
    } else if g == value {
        (2, r)
    } else {
        (4, g)
    };
    let third = (2 * value + least - r - g - b) as f32 / range.max(1) as f32;
    let sextant = if ahead == least { (base + 1) as f32 - third } else { (base - 1) as f32 + third };
    let turn = sextant / 6.0 + if sextant < 0.0 { 1.0 } else { 0.0 };
    let hue = (whole(turn * 255.0) + shift) & 255;

    // Back: `low` is the smallest channel, `mid` the one that changes within the sector.
    let scaled = 6 * hue;
    let sector = (scaled + 1 + (scaled >> 8)) >> 8; // scaled / 255
    let part = (scaled - 255 * sector) as f32 * (1.0 / 255.0);
    let sector = if sector == 6 { 0 } else { sector };
    let share = saturation as f32 * (1.0 / 255.0);
    let height = value as f32;
    let mid = whole(height * (1.0 - share * if sector & 1 == 1 { part } else { 1.0 - part }) + 0.5);
    let low = whole(height * (1.0 - share) + 0.5);
    let pick = |high: [i32; 2], middle: [i32; 2]| {
        let rest = if sector == middle[0] || sector == middle[1] { mid } else { low };
        if sector == high[0] || sector == high[1] { value } else { rest }
    };
    (pick([0, 5], [1, 4]) as u8, pick([1, 2], [0, 3]) as u8, pick([3, 4], [2, 5]) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The conversion as PIL's C source spells it, with its types and branches.
    fn by_the_book(r: u8, g: u8, b: u8, shift: i32) -> (u8, u8, u8) {
        let (max, min) = (r.max(g).max(b), r.min(g).min(b));
        let (mut h8, mut s8) = (0u8, 0u8);
        if max != min {
            let cr = f32::from(max - min);
            let s = cr / f32::from(max);
            let [rc, gc, bc] = [r, g, b].map(|v| f64::from(f32::from(max - v) / cr));
            let h = if r == max {
                bc - gc
            } else if g == max {
                2.0 + rc - bc
            } else {
                4.0 + gc - rc
            } as f32;
            let h = ((f64::from(h) / 6.0 + 1.0) % 1.0) as f32;
            (h8, s8) = ((f64::from(h) * 255.0) as u8, (f64::from(s) * 255.0) as u8);
        }
        let (h, s, v) = (h8.wrapping_add(shift as u8), s8, max);
        if s == 0 {
            return (v, v, v);
        }
        let position = f64::from(f32::from(h)) * 6.0 / 255.0;
        let f = (position - position.floor()) as f32;
        let fs = (f64::from(s) / 255.0) as f32;
        let level = |lost: f64| (f64::from(v) * (1.0 - lost)).round() as u8;
        let (p, q, t) = (level(f64::from(fs)), level(f64::from(fs * f)), level(f64::from(fs) * (1.0 - f64::from(f))));
        [(v, t, p), (q, v, p), (p, v, t), (p, q, v), (t, p, v), (v, p, q)][position.floor() as usize % 6]
    }

    /// Every colour on a grid of `step` levels (with the ends) and its neighbours.
    fn differing(step: usize, shifts: &[i32]) -> usize {
        let levels: Vec<u8> = (0..=255u8).filter(|v| usize::from(*v) % step < 2 || *v > 253).collect();
        let mut count = 0;
        for &shift in shifts {
            for &r in &levels {
                for &g in &levels {
                    count += levels.iter().filter(|&&b| shifted(r, g, b, shift) != by_the_book(r, g, b, shift)).count();
                }
            }
        }
        count
    }

    #[test]
    fn a_grid_of_colours_follows_the_book() {
        assert_eq!(differing(11, &[-127, -25, 0, 1, 102, 127]), 0);
    }

    #[test]
    #[ignore = "all 16.7 million colours: seconds in release, a minute in debug"]
    fn every_colour_follows_the_book() {
        assert_eq!(differing(1, &[-102, 0, 25]), 0);
    }
}
