//! Batch norm of channels-last maps in training: statistics, normalisation with what follows it, and the way back.
//!
//! Images i with i mod groups = g form SplitBN group g. Every sum is made per part of an image first, and the parts are merged in their order in
//! f64: the result does not depend on the number of threads.

use std::ops::Range;

use rayon::prelude::*;

use super::lanes::{Lanes, Task, read, write};
use super::shared::Shared;
use crate::kernel::net::EPSILON;
use crate::kernel::net::simd::Simd;
use crate::kernel::net::sizes::{Groups, Map};

/// Pixels of a task: what is read twice stays in a core's second-level cache.
const PART: usize = 1024;

/// How a map is cut into tasks.
impl Map {
    fn parts_of_image(&self) -> usize {
        self.pixels.div_ceil(PART).max(1)
    }

    fn parts(&self) -> usize {
        self.n * self.parts_of_image()
    }

    /// The image of a part, and its pixels counted over all images.
    fn part(&self, part: usize) -> (usize, Range<usize>) {
        let (image, at) = (part / self.parts_of_image(), part % self.parts_of_image());
        let from = image * self.pixels;
        (image, from + at * PART..from + ((at + 1) * PART).min(self.pixels))
    }
}

/// What one norm saw, or what an evaluation normalises by: per group and channel, `[groups, channels]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// Mean.
    pub mean: Vec<f32>,
    /// Biased variance.
    pub variance: Vec<f32>,
}

/// `y = z scale + shift` per group and channel, `[groups, channels]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Affine {
    /// Factor.
    pub scale: Vec<f32>,
    /// Summand.
    pub shift: Vec<f32>,
}

impl Moments {
    /// The statistics of a map.
    pub fn of(z: &[f32], map: &Map, simd: Simd) -> Self {
        assert_eq!(z.len(), map.size(), "a map of another size");
        let c = map.channels;
        let mut sums = vec![0.0f32; map.parts() * 2 * c];
        sums.par_chunks_mut(2 * c).enumerate().for_each(|(part, sums)| {
            let (_, pixels) = map.part(part);
            let (mean, square) = sums.split_at_mut(c);
            simd.run(Spread { z: &z[pixels.start * c..pixels.end * c], mean, square });
        });
        let (mut mean, mut variance) = (vec![0.0; map.groups * c], vec![0.0; map.groups * c]);
        mean.par_chunks_mut(c).zip(variance.par_chunks_mut(c)).enumerate().for_each(|(group, (mean, variance))| {
            let (mut count, mut means, mut squares) = (0.0f64, vec![0.0f64; c], vec![0.0f64; c]);
            for image in (group..map.n).step_by(map.groups) {
                for part in image * map.parts_of_image()..(image + 1) * map.parts_of_image() {
                    let more = map.part(part).1.len() as f64;
                    let (part_means, part_squares) = sums[part * 2 * c..(part + 1) * 2 * c].split_at(c);
                    // Chan et al. 1983: the squares of two parts, each about its own mean, and of their means about each other.
                    let (share, weight) = (more / (count + more), count * more / (count + more));
                    for channel in 0..c {
                        let off = f64::from(part_means[channel]) - means[channel];
                        means[channel] += off * share;
                        squares[channel] += f64::from(part_squares[channel]) + off * off * weight;
                    }
                    count += more;
                }
            }
            for channel in 0..c {
                mean[channel] = means[channel] as f32;
                variance[channel] = (squares[channel] / count) as f32;
            }
        });
        Self { mean, variance }
    }

    /// `1 / sqrt(variance + epsilon)`.
    pub fn inverse(&self) -> Vec<f32> {
        self.variance.iter().map(|variance| (1.0 / (f64::from(*variance) + EPSILON).sqrt()) as f32).collect()
    }

    /// The norm with these statistics, `gamma` and `beta` per channel.
    pub fn affine(&self, gamma: &[f32], beta: &[f32]) -> Affine {
        let c = gamma.len();
        let scale: Vec<f32> = self.inverse().iter().enumerate().map(|(at, inverse)| inverse * gamma[at % c]).collect();
        let shift = scale.iter().zip(&self.mean).enumerate().map(|(at, (scale, mean))| beta[at % c] - mean * scale).collect();
        Affine { scale, shift }
    }

    /// Mean and unbiased variance of each forward: means over its groups. A single value has no unbiased variance; the biased one (0) is kept.
    pub fn over_groups(&self, map: &Map, Groups { forwards, splits }: Groups) -> Vec<(Vec<f32>, Vec<f32>)> {
        let count = map.count() as f64;
        let unbiased = if count > 1.0 { count / (count - 1.0) } else { 1.0 };
        let mean = |values: &[f32], factor: f64| -> Vec<f32> {
            let sum =
                |channel: usize| values.iter().skip(channel).step_by(map.channels).map(|value| f64::from(*value)).sum::<f64>();
            (0..map.channels).map(|channel| (sum(channel) / splits as f64 * factor) as f32).collect()
        };
        let each = splits * map.channels;
        let one = |forward: usize| {
            let own = forward * each..(forward + 1) * each;
            (mean(&self.mean[own.clone()], 1.0), mean(&self.variance[own], unbiased))
        };
        (0..forwards).map(one).collect()
    }
}

/// Mean, and sum of squares about it, of each channel of some pixels.
struct Spread<'a> {
    z: &'a [f32],
    mean: &'a mut [f32],
    square: &'a mut [f32],
}

/// Calls `$each::<V>(first channel, channels)` for vectors of channels side by side, four at a time where there are four.
macro_rules! over_channels {
    ($channels:expr, $lanes:expr, $call:ident) => {
        let mut from = 0;
        while from < $channels {
            let left = $channels - from;
            if left >= 4 * $lanes {
                $call!(4, from, 4 * $lanes);
                from += 4 * $lanes;
            } else {
                $call!(1, from, left.min($lanes));
                from += left.min($lanes);
            }
        }
    };
}

impl Task for Spread<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let c = self.mean.len();
        let pixels = self.z.len() / c;
        let by = L::splat(1.0 / pixels as f32);
        macro_rules! channels {
            ($v:literal, $from:expr, $count:expr) => {
                // SAFETY: `from + count` channels are inside every pixel and both outputs.
                unsafe {
                    let z = self.z.as_ptr().add($from);
                    let mut sums = [L::zero(); $v];
                    for pixel in 0..pixels {
                        let values = read::<L, $v>(z.add(pixel * c), $count);
                        for v in 0..$v {
                            sums[v] = sums[v].add(values[v]);
                        }
                    }
                    let mut means = [L::zero(); $v];
                    for v in 0..$v {
                        means[v] = sums[v].mul(by);
                    }
                    let mut squares = [L::zero(); $v];
                    for pixel in 0..pixels {
                        let values = read::<L, $v>(z.add(pixel * c), $count);
                        for v in 0..$v {
                            let off = values[v].sub(means[v]);
                            squares[v] = off.mul_add(off, squares[v]);
                        }
                    }
                    write::<L, $v>(means, self.mean.as_mut_ptr().add($from), $count);
                    write::<L, $v>(squares, self.square.as_mut_ptr().add($from), $count);
                }
            };
        }
        over_channels!(c, L::N, channels);
    }
}

/// What joins a normalised map before the ReLU.
#[derive(Clone, Copy)]
pub enum Joined<'a> {
    /// Nothing.
    Nothing,
    /// Another map.
    Map(&'a [f32]),
    /// Another map through a norm of its own.
    Normed(&'a [f32], &'a Affine),
}

/// `out = relu(norm(z) + joined)`, the ReLU if asked for.
///
/// # Panics
/// Maps of different sizes.
pub fn apply(z: &[f32], map: &Map, affine: &Affine, joined: Joined, relu: bool, simd: Simd, out: &mut [f32]) {
    assert!(z.len() == map.size() && out.len() == map.size(), "maps of different sizes");
    // SAFETY: `z` has the map's length and is borrowed meanwhile.
    unsafe { apply_from(z.as_ptr(), map, affine, joined, relu, simd, out) }
}

/// [`apply`] to a map in its place.
///
/// # Panics
/// Maps of different sizes.
pub fn apply_in_place(z: &mut [f32], map: &Map, affine: &Affine, joined: Joined, relu: bool, simd: Simd) {
    assert_eq!(z.len(), map.size(), "maps of different sizes");
    // SAFETY: every value is read before it is written, by the thread that writes it.
    unsafe { apply_from(z.as_ptr(), map, affine, joined, relu, simd, z) }
}

/// # Safety
/// `z` has the map's length; it may be `out`.
unsafe fn apply_from(z: *const f32, map: &Map, affine: &Affine, joined: Joined, relu: bool, simd: Simd, out: &mut [f32]) {
    let c = map.channels;
    let other = match joined {
        Joined::Nothing => None,
        Joined::Map(other) | Joined::Normed(other, _) => {
            assert_eq!(other.len(), map.size(), "maps of different sizes");
            Some(other)
        }
    };
    let (z, out) = (Address(z), Shared::new(out));
    (0..map.parts()).into_par_iter().for_each(|part| {
        let (image, pixels) = map.part(part);
        let group = image % map.groups * c..(image % map.groups + 1) * c;
        let of = |affine: &'_ Affine| (affine.scale[group.clone()].as_ptr(), affine.shift[group.clone()].as_ptr());
        let from = pixels.start * c;
        // SAFETY: the part lies in all maps, and is of this task alone.
        unsafe {
            simd.run(Apply {
                z: z.get().add(from),
                affine: of(affine),
                other: other.map_or(std::ptr::null(), |other| other.as_ptr().add(from)),
                other_affine: if let Joined::Normed(_, affine) = joined { Some(of(affine)) } else { None },
                relu,
                out: out.at(from),
                pixels: pixels.len(),
                channels: c,
            });
        }
    });
}

/// A pointer that threads share.
#[derive(Clone, Copy)]
struct Address(*const f32);
// SAFETY: whoever uses it keeps the accesses of threads apart.
unsafe impl Sync for Address {}

impl Address {
    fn get(self) -> *const f32 {
        self.0
    }
}

struct Apply {
    z: *const f32,
    affine: (*const f32, *const f32),
    other: *const f32,
    other_affine: Option<(*const f32, *const f32)>,
    relu: bool,
    out: *mut f32,
    pixels: usize,
    channels: usize,
}

impl Task for Apply {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let c = self.channels;
        let floor = L::splat(if self.relu { 0.0 } else { f32::NEG_INFINITY });
        macro_rules! channels {
            ($v:literal, $from:expr, $count:expr) => {
                // SAFETY: `from + count` channels are inside every pixel of all maps, and of the norms' values.
                unsafe {
                    let scale = read::<L, $v>(self.affine.0.add($from), $count);
                    let shift = read::<L, $v>(self.affine.1.add($from), $count);
                    let (z, out) = (self.z.add($from), self.out.add($from));
                    if self.other.is_null() {
                        for pixel in 0..self.pixels {
                            let mut values = read::<L, $v>(z.add(pixel * c), $count);
                            for v in 0..$v {
                                values[v] = floor.max(values[v].mul_add(scale[v], shift[v]));
                            }
                            write::<L, $v>(values, out.add(pixel * c), $count);
                        }
                    } else {
                        let other = self.other.add($from);
                        let (mut factor, mut offset) = ([L::splat(1.0); $v], shift);
                        if let Some((scale, shift)) = self.other_affine {
                            factor = read::<L, $v>(scale.add($from), $count);
                            let more = read::<L, $v>(shift.add($from), $count);
                            for v in 0..$v {
                                offset[v] = offset[v].add(more[v]);
                            }
                        }
                        for pixel in 0..self.pixels {
                            let mut values = read::<L, $v>(z.add(pixel * c), $count);
                            let others = read::<L, $v>(other.add(pixel * c), $count);
                            for v in 0..$v {
                                let sum = others[v].mul_add(factor[v], offset[v]);
                                values[v] = floor.max(values[v].mul_add(scale[v], sum));
                            }
                            write::<L, $v>(values, out.add(pixel * c), $count);
                        }
                    }
                }
            };
        }
        over_channels!(c, L::N, channels);
    }
}

/// What makes the gradient of a norm's input, `dz = norm(g) + norm(z)` with a factor and a summand per group and channel for each, and the
/// gradients of gamma and beta.
#[derive(Debug, Clone, PartialEq)]
pub struct Back {
    /// Of the gradient g.
    pub gradient: Affine,
    /// Of the norm's input z.
    pub input: Affine,
    /// Gradient of gamma, `[channels]`.
    pub gamma: Vec<f32>,
    /// Gradient of beta, `[channels]`.
    pub beta: Vec<f32>,
}

/// A norm on its way back: its input, its statistics and gamma.
#[derive(Clone, Copy)]
pub struct Normed<'a> {
    /// The norm's input.
    pub z: &'a [f32],
    /// Its statistics.
    pub moments: &'a Moments,
    /// Scale per channel.
    pub gamma: &'a [f32],
}

/// Masks the gradient of a ReLU's output in its place, `g = dy where y > 0`, and sums for each of one or two norms whose outputs were added
/// before the ReLU what their gradients need. Without `y` there was no ReLU.
///
/// # Panics
/// Maps of different sizes.
pub fn reduce(g: &mut [f32], y: Option<&[f32]>, norms: &[Normed], map: &Map, simd: Simd) -> Vec<Back> {
    let c = map.channels;
    assert!(matches!(norms.len(), 1 | 2), "one norm, and that of a shortcut");
    assert!(g.len() == map.size() && y.is_none_or(|y| y.len() == map.size()), "maps of different sizes");
    assert!(norms.iter().all(|norm| norm.z.len() == map.size()), "maps of different sizes");
    let rows = 1 + norms.len();
    let mut sums = vec![0.0f32; map.parts() * rows * c];
    let gradient = Shared::new(g);
    sums.par_chunks_mut(rows * c).enumerate().for_each(|(part, sums)| {
        let (image, pixels) = map.part(part);
        let group = image % map.groups * c;
        let from = pixels.start * c;
        let norm = |norm: &Normed| (norm.z[from..].as_ptr(), norm.moments.mean[group..].as_ptr());
        // SAFETY: the part lies in all maps, and is of this task alone.
        unsafe {
            simd.run(Reduce {
                g: gradient.at(from),
                y: y.map_or(std::ptr::null(), |y| y.as_ptr().add(from)),
                norm: norm(&norms[0]),
                second: norms.get(1).map(norm),
                pixels: pixels.len(),
                channels: c,
                sums,
            });
        }
    });
    // Per group: sum of g, then of g (z - mean) for each norm.
    let mut totals = vec![0.0f64; map.groups * rows * c];
    totals.par_chunks_mut(rows * c).enumerate().for_each(|(group, totals)| {
        for image in (group..map.n).step_by(map.groups) {
            for part in image * map.parts_of_image()..(image + 1) * map.parts_of_image() {
                totals.iter_mut().zip(&sums[part * rows * c..]).for_each(|(total, part)| *total += f64::from(*part));
            }
        }
    });
    norms.iter().enumerate().map(|(at, norm)| back(norm, &totals, (1 + at, rows), map)).collect()
}

/// The gradient of a norm's input from the sums: `dz = gamma / s (g - mean(g) - (z - m) / s^2 mean(g (z - m)))`, `s^2` being the variance with
/// epsilon (Ioffe and Szegedy, arXiv 1502.03167, section 3).
fn back(norm: &Normed, totals: &[f64], (row, rows): (usize, usize), map: &Map) -> Back {
    let (c, count) = (map.channels, map.count() as f64);
    let all = map.groups * c;
    let zeros = || Affine { scale: vec![0.0; all], shift: vec![0.0; all] };
    let mut out = Back { gradient: zeros(), input: zeros(), gamma: vec![0.0; c], beta: vec![0.0; c] };
    let (mut gamma, mut beta) = (vec![0.0f64; c], vec![0.0f64; c]);
    for group in 0..map.groups {
        for channel in 0..c {
            let at = group * c + channel;
            let inverse = 1.0 / (f64::from(norm.moments.variance[at]) + EPSILON).sqrt();
            let mean = f64::from(norm.moments.mean[at]);
            let sum = totals[group * rows * c + channel];
            let product = totals[(group * rows + row) * c + channel];
            let scale = f64::from(norm.gamma[channel]) * inverse;
            let by = -scale * inverse * inverse * product / count;
            out.gradient.scale[at] = scale as f32;
            out.gradient.shift[at] = (-scale * sum / count - by * mean) as f32;
            out.input.scale[at] = by as f32;
            gamma[channel] += product * inverse;
            beta[channel] += sum;
        }
    }
    for channel in 0..c {
        out.gamma[channel] = gamma[channel] as f32;
        out.beta[channel] = beta[channel] as f32;
    }
    out
}

struct Reduce<'a> {
    g: *mut f32,
    y: *const f32,
    norm: (*const f32, *const f32),
    second: Option<(*const f32, *const f32)>,
    pixels: usize,
    channels: usize,
    sums: &'a mut [f32],
}

impl Task for Reduce<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let c = self.channels;
        macro_rules! channels {
            ($v:literal, $from:expr, $count:expr) => {
                // SAFETY: `from + count` channels are inside every pixel of all maps, of the means and of every row of sums.
                unsafe {
                    let (g, z) = (self.g.add($from), self.norm.0.add($from));
                    let mean = read::<L, $v>(self.norm.1.add($from), $count);
                    let second = self.second.map(|(z, mean)| (z.add($from), read::<L, $v>(mean.add($from), $count)));
                    let (mut sum, mut product, mut other) = ([L::zero(); $v], [L::zero(); $v], [L::zero(); $v]);
                    for pixel in 0..self.pixels {
                        let mut values = read::<L, $v>(g.add(pixel * c), $count);
                        if !self.y.is_null() {
                            let y = read::<L, $v>(self.y.add(pixel * c + $from), $count);
                            for v in 0..$v {
                                values[v] = values[v].where_positive(y[v]);
                            }
                            write::<L, $v>(values, g.add(pixel * c), $count);
                        }
                        let inputs = read::<L, $v>(z.add(pixel * c), $count);
                        for v in 0..$v {
                            sum[v] = sum[v].add(values[v]);
                            product[v] = values[v].mul_add(inputs[v].sub(mean[v]), product[v]);
                        }
                        if let Some((z, mean)) = &second {
                            let inputs = read::<L, $v>(z.add(pixel * c), $count);
                            for v in 0..$v {
                                other[v] = values[v].mul_add(inputs[v].sub(mean[v]), other[v]);
                            }
                        }
                    }
                    let sums = self.sums.as_mut_ptr().add($from);
                    write::<L, $v>(sum, sums, $count);
                    write::<L, $v>(product, sums.add(c), $count);
                    if second.is_some() {
                        write::<L, $v>(other, sums.add(2 * c), $count);
                    }
                }
            };
        }
        over_channels!(c, L::N, channels);
    }
}

/// The gradient of a norm's input, into `out`.
///
/// # Panics
/// Maps of different sizes.
pub fn spread(g: &[f32], z: &[f32], back: &Back, map: &Map, simd: Simd, out: &mut [f32]) {
    apply(g, map, &back.gradient, Joined::Normed(z, &back.input), false, simd, out);
}

/// [`spread`] in the place of the gradient.
///
/// # Panics
/// Maps of different sizes.
pub fn spread_in_place(g: &mut [f32], z: &[f32], back: &Back, map: &Map, simd: Simd) {
    apply_in_place(g, map, &back.gradient, Joined::Normed(z, &back.input), false, simd);
}
