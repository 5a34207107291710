//! Batch norms as CubeCL kernels: statistics, the map through norm, shortcut and ReLU, and the way back. Maps are channels-last; image i belongs
//! to group i mod groups, so that SplitBN costs no copy.
//!
//! A table is `[rows, groups, channels]`: mean, 1 / deviation, scale and shift of a norm ([`row`]), or the three factors of its gradient
//! ([`back_row`]). Sums over a map are made in parts, which are added in their order, so that equal inputs give equal bits.

use burn_cubecl::tensor::CubeTensor;
use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::*;

use super::UNITS;
use crate::kernel::backend::cube::{buffer, lanes, shaped};
use crate::kernel::net::EPSILON;
use crate::kernel::net::sizes::{Groups, Map};

/// Rows of a norm's table.
mod row {
    pub const MEAN: u32 = 0;
    /// 1 / deviation.
    pub const RECIPROCAL: u32 = 1;
    pub const SCALE: u32 = 2;
    pub const SHIFT: u32 = 3;
    pub const COUNT: usize = 4;
}

/// Rows of a gradient's table: the gradient of a norm's input is `OWN g + INPUT z + CONSTANT`.
mod back_row {
    pub const OWN: u32 = 0;
    pub const INPUT: u32 = 1;
    pub const CONSTANT: u32 = 2;
    pub const COUNT: usize = 3;
}

/// Units that are wanted for a sum over a map.
const SUM_UNITS: usize = 1 << 13;
/// Parts of a sum at most: one unit adds them.
const MOST_PARTS: usize = 128;

/// Values of a part of a sum over a map, and parts.
fn parts(map: &Map) -> [usize; 2] {
    let units = map.channels / lanes(map.channels) * map.groups;
    let wanted = SUM_UNITS.div_ceil(units).min(MOST_PARTS);
    let each = map.count().div_ceil(wanted).max(1);
    [each, map.count().div_ceil(each)]
}

/// A map as its kernels take it, with `lanes` channels in a vector.
fn sizes(map: &Map, lanes: usize) -> SizesLaunch {
    let [each, parts] = parts(map);
    let [n, pixels, channels, groups, each, parts] = [map.n, map.pixels, map.channels / lanes, map.groups, each, parts]
        .map(|size| u32::try_from(size).expect("sizes of a map fit 32 bits"));
    SizesLaunch::new(n, pixels, channels, groups, each, parts)
}

/// A map as its kernels take it; channels are counted in vectors, or singly where a kernel has none.
#[derive(CubeLaunch, CubeType, Clone, Copy)]
struct Sizes {
    images: u32,
    pixels: u32,
    channels: u32,
    groups: u32,
    /// Values of a part.
    each: u32,
    parts: u32,
}

/// Where a unit's part of a sum starts, and how many values it has.
#[derive(CubeType, Clone, Copy)]
struct Part {
    group: u32,
    channel: u32,
    /// Place among the map's parts, in vectors of channels: `[groups, parts]`.
    at: u32,
    image: u32,
    pixel: u32,
    count: u32,
}

#[cube]
fn part_of(sizes: &Sizes, unit: u32) -> Part {
    let rest = unit / sizes.channels;
    let channel = unit - rest * sizes.channels;
    let group = rest / sizes.parts;
    let first = (rest - group * sizes.parts) * sizes.each;
    let all = sizes.images / sizes.groups * sizes.pixels;
    let image = first / sizes.pixels;
    Part { group, channel, at: rest, image, pixel: first - image * sizes.pixels, count: min(sizes.each, all - first) }
}

/// Mean and sum of squared differences from it, of each part: `[groups, parts, 2, channels]`.
#[cube(launch_unchecked)]
fn moments_kernel<M: Size>(z: &[Vector<f32, M>], parts: &mut [Vector<f32, M>], sizes: Sizes) {
    let unit = ABSOLUTE_POS as u32;
    if unit >= sizes.groups * sizes.parts * sizes.channels {
        terminate!();
    }
    let part = part_of(&sizes, unit);
    let (mut image, mut pixel) = (part.image, part.pixel);
    let mut at = ((image * sizes.groups + part.group) * sizes.pixels + pixel) * sizes.channels + part.channel;
    // Differences from a value of the map: a large mean costs no digits.
    let about = z[at as usize];
    let mut sum = Vector::<f32, M>::new(0.0f32);
    let mut squares = Vector::<f32, M>::new(0.0f32);
    for _ in 0..part.count {
        let difference = z[at as usize] - about;
        sum += difference;
        squares = fma(difference, difference, squares);
        pixel += 1;
        at += sizes.channels;
        if pixel == sizes.pixels {
            pixel = 0;
            image += 1;
            at = (image * sizes.groups + part.group) * sizes.pixels * sizes.channels + part.channel;
        }
    }
    let count = Vector::new(f32::cast_from(part.count));
    let place = (part.at * 2 * sizes.channels + part.channel) as usize;
    parts[place] = about + sum / count;
    parts[place + sizes.channels as usize] = max(squares - sum * sum / count, Vector::new(0.0f32));
}

/// The table of a norm from its parts (Chan's sums of parts), and what it saw in each forward: means over the forward's groups, `[forwards, pitch]`.
#[cube(launch_unchecked)]
fn table_kernel(
    parts: &[f32],
    gamma: &[f32],
    beta: &[f32],
    table: &mut [f32],
    seen_mean: &mut [f32],
    seen_variance: &mut [f32],
    sizes: Sizes,
    splits: u32,
    pitch: u32,
    epsilon: f32,
) {
    let channel = ABSOLUTE_POS as u32;
    if channel >= sizes.channels {
        terminate!();
    }
    let all = sizes.images / sizes.groups * sizes.pixels;
    let mut means = 0.0f32;
    let mut variances = 0.0f32;
    for group in 0..sizes.groups {
        let mut mean = 0.0f32;
        let mut squares = 0.0f32;
        let mut before = 0u32.runtime();
        for part in 0..sizes.parts {
            let count = min(sizes.each, all - before);
            let at = ((group * sizes.parts + part) * 2 * sizes.channels + channel) as usize;
            let share = f32::cast_from(count) / f32::cast_from(before + count);
            let difference = parts[at] - mean;
            mean += difference * share;
            squares += parts[at + sizes.channels as usize] + difference * difference * share * f32::cast_from(before);
            before += count;
        }
        let count = f32::cast_from(all);
        let reciprocal = 1.0f32 / f32::sqrt(squares / count + epsilon);
        let scale = gamma[channel as usize] * reciprocal;
        let step = (sizes.groups * sizes.channels) as usize;
        let at = (group * sizes.channels + channel) as usize;
        table[at + row::MEAN as usize * step] = mean;
        table[at + row::RECIPROCAL as usize * step] = reciprocal;
        table[at + row::SCALE as usize * step] = scale;
        table[at + row::SHIFT as usize * step] = beta[channel as usize] - mean * scale;
        means += mean;
        // A single value has no unbiased variance; the biased one (0) is kept.
        variances += squares / max(count - 1.0f32, 1.0f32);
        if (group + 1) % splits == 0 {
            let at = (group / splits * pitch + channel) as usize;
            seen_mean[at] = means / f32::cast_from(splits);
            seen_variance[at] = variances / f32::cast_from(splits);
            means = 0.0f32;
            variances = 0.0f32;
        }
    }
}

/// The table of a norm that normalises by statistics that were kept, the same for all images.
#[cube(launch_unchecked)]
fn kept_table_kernel(mean: &[f32], variance: &[f32], gamma: &[f32], beta: &[f32], table: &mut [f32], channels: u32, epsilon: f32) {
    if ABSOLUTE_POS >= channels as usize {
        terminate!();
    }
    let at = ABSOLUTE_POS;
    let step = channels as usize;
    let reciprocal = 1.0f32 / f32::sqrt(variance[at] + epsilon);
    let scale = gamma[at] * reciprocal;
    table[at + row::MEAN as usize * step] = mean[at];
    table[at + row::RECIPROCAL as usize * step] = reciprocal;
    table[at + row::SCALE as usize * step] = scale;
    table[at + row::SHIFT as usize * step] = beta[at] - mean[at] * scale;
}

/// What [`apply_kernel`] adds before the ReLU, a `comptime` number of it.
mod join {
    pub const NOTHING: u32 = 0;
    pub const MAP: u32 = 1;
    pub const NORMED: u32 = 2;
}

/// `relu(scale z + shift + joined)`.
#[cube(launch_unchecked)]
fn apply_kernel<M: Size>(
    z: &[Vector<f32, M>],
    table: &[Vector<f32, M>],
    other: &[Vector<f32, M>],
    other_table: &[Vector<f32, M>],
    out: &mut [Vector<f32, M>],
    sizes: Sizes,
    #[comptime] joined: u32,
) {
    let at = ABSOLUTE_POS as u32;
    if at >= sizes.images * sizes.pixels * sizes.channels {
        terminate!();
    }
    let step = sizes.groups * sizes.channels;
    let place = place_in_table(&sizes, at);
    let mut y = fma(z[at as usize], table[(place + row::SCALE * step) as usize], table[(place + row::SHIFT * step) as usize]);
    if joined == join::MAP {
        y += other[at as usize];
    }
    if joined == join::NORMED {
        let shift = other_table[(place + row::SHIFT * step) as usize];
        y += fma(other[at as usize], other_table[(place + row::SCALE * step) as usize], shift);
    }
    out[at as usize] = relu(y);
}

/// Where the values at `at` of a map have their channels and their group in a row of a table.
#[cube]
fn place_in_table(sizes: &Sizes, at: u32) -> u32 {
    let pixel = at / sizes.channels;
    let image = pixel / sizes.pixels;
    image % sizes.groups * sizes.channels + at - pixel * sizes.channels
}

/// The larger of a value and 0; a value that is not a number stays one.
#[cube]
fn relu<M: Size>(values: Vector<f32, M>) -> Vector<f32, M> {
    let mut out = values;
    #[unroll]
    for lane in 0..M::value() {
        let value = values.extract(lane);
        out.insert(lane, select(value < 0.0f32, 0.0f32, value));
    }
    out
}

/// `slopes` where the ReLU behind it was open: where `y`, what came out of the ReLU or went into it, is above 0.
#[cube]
fn through_relu<M: Size>(slopes: Vector<f32, M>, y: Vector<f32, M>) -> Vector<f32, M> {
    let mut out = slopes;
    #[unroll]
    for lane in 0..M::value() {
        out.insert(lane, select(y.extract(lane) > 0.0f32, slopes.extract(lane), 0.0f32));
    }
    out
}

/// Sums over each part, of the gradient behind the ReLU and of that times the normalised values: `[groups, parts, 2, channels]`. `y` is what came
/// out of the ReLU.
#[cube(launch_unchecked)]
fn slopes_kernel<M: Size>(
    slopes: &[Vector<f32, M>],
    z: &[Vector<f32, M>],
    y: &[Vector<f32, M>],
    table: &[Vector<f32, M>],
    parts: &mut [Vector<f32, M>],
    sizes: Sizes,
) {
    let unit = ABSOLUTE_POS as u32;
    if unit >= sizes.groups * sizes.parts * sizes.channels {
        terminate!();
    }
    let part = part_of(&sizes, unit);
    let place = part.group * sizes.channels + part.channel;
    let step = sizes.groups * sizes.channels;
    let mean = table[(place + row::MEAN * step) as usize];
    let reciprocal = table[(place + row::RECIPROCAL * step) as usize];
    let (mut image, mut pixel) = (part.image, part.pixel);
    let mut at = ((image * sizes.groups + part.group) * sizes.pixels + pixel) * sizes.channels + part.channel;
    let mut sum = Vector::<f32, M>::new(0.0f32);
    let mut products = Vector::<f32, M>::new(0.0f32);
    for _ in 0..part.count {
        let slope = through_relu::<M>(slopes[at as usize], y[at as usize]);
        sum += slope;
        products = fma(slope, z[at as usize] - mean, products);
        pixel += 1;
        at += sizes.channels;
        if pixel == sizes.pixels {
            pixel = 0;
            image += 1;
            at = (image * sizes.groups + part.group) * sizes.pixels * sizes.channels + part.channel;
        }
    }
    let place = (part.at * 2 * sizes.channels + part.channel) as usize;
    parts[place] = sum;
    parts[place + sizes.channels as usize] = products * reciprocal;
}

/// The gradients of gamma and beta from the parts, and the table of the gradient of a norm's input.
#[cube(launch_unchecked)]
fn back_table_kernel(
    parts: &[f32],
    table: &[f32],
    gamma: &[f32],
    back: &mut [f32],
    gamma_gradient: &mut [f32],
    beta_gradient: &mut [f32],
    sizes: Sizes,
) {
    let channel = ABSOLUTE_POS as u32;
    if channel >= sizes.channels {
        terminate!();
    }
    let step = (sizes.groups * sizes.channels) as usize;
    let count = f32::cast_from(sizes.images / sizes.groups * sizes.pixels);
    let mut sums = 0.0f32;
    let mut products = 0.0f32;
    for group in 0..sizes.groups {
        let mut sum = 0.0f32;
        let mut product = 0.0f32;
        for part in 0..sizes.parts {
            let at = ((group * sizes.parts + part) * 2 * sizes.channels + channel) as usize;
            sum += parts[at];
            product += parts[at + sizes.channels as usize];
        }
        let at = (group * sizes.channels + channel) as usize;
        let reciprocal = table[at + row::RECIPROCAL as usize * step];
        let own = gamma[channel as usize] * reciprocal;
        let input = -own * reciprocal * product / count;
        back[at + back_row::OWN as usize * step] = own;
        back[at + back_row::INPUT as usize * step] = input;
        back[at + back_row::CONSTANT as usize * step] = -own * sum / count - input * table[at + row::MEAN as usize * step];
        sums += sum;
        products += product;
    }
    gamma_gradient[channel as usize] = products;
    beta_gradient[channel as usize] = sums;
}

/// The gradient of a norm's input; with `through` also the gradient behind the ReLU itself, which the shortcut takes.
#[cube(launch_unchecked)]
fn spread_kernel<M: Size>(
    slopes: &[Vector<f32, M>],
    z: &[Vector<f32, M>],
    y: &[Vector<f32, M>],
    back: &[Vector<f32, M>],
    out: &mut [Vector<f32, M>],
    beside: &mut [Vector<f32, M>],
    sizes: Sizes,
    #[comptime] through: bool,
) {
    let at = ABSOLUTE_POS as u32;
    if at >= sizes.images * sizes.pixels * sizes.channels {
        terminate!();
    }
    let step = sizes.groups * sizes.channels;
    let place = place_in_table(&sizes, at);
    let slope = through_relu::<M>(slopes[at as usize], y[at as usize]);
    let constant = back[(place + back_row::CONSTANT * step) as usize];
    let rest = fma(z[at as usize], back[(place + back_row::INPUT * step) as usize], constant);
    out[at as usize] = fma(slope, back[(place + back_row::OWN * step) as usize], rest);
    if through {
        beside[at as usize] = slope;
    }
}

/// A norm behind a convolution.
#[derive(Debug, Clone)]
pub struct Norm {
    pub map: Map,
    table: CubeTensor,
}

/// What joins the path before the ReLU.
pub enum Joined<'a> {
    Nothing,
    Map(&'a CubeTensor),
    Normed(&'a CubeTensor, &'a Norm),
}

/// `count` values of a flat tensor from `from` on, where they lie.
fn part(tensor: &CubeTensor, from: usize, count: usize) -> CubeTensor {
    let (size, all) = (tensor.dtype.size() as u64, tensor.meta.num_elements());
    let (before, behind) = (from as u64 * size, (all - from - count) as u64 * size);
    let handle = tensor.handle.clone().offset_start(before).offset_end(behind);
    CubeTensor::new_contiguous(tensor.client.clone(), tensor.device.clone(), [count].into(), handle, tensor.dtype)
}

fn parts_of(map: &Map, like: &CubeTensor) -> (CubeTensor, usize) {
    let [_, parts] = parts(map);
    let units = map.groups * parts * (map.channels / lanes(map.channels));
    (shaped(&like.client, &like.device, &[map.groups, parts, 2, map.channels], like.dtype), units)
}

impl Norm {
    /// Normalises by the statistics of the map `z`; mean and unbiased variance of each forward come with it.
    pub fn of(
        z: &CubeTensor,
        map: Map,
        Groups { forwards, splits }: Groups,
        gamma: &CubeTensor,
        beta: &CubeTensor,
    ) -> (Self, Vec<CubeTensor>) {
        let (client, dim) = (&z.client, CubeDim::new_1d(UNITS));
        // What a forward saw is a tensor of its own, which starts where a device lets a buffer start.
        let pitch =
            (map.channels * z.dtype.size()).next_multiple_of(client.properties().memory.alignment as usize) / z.dtype.size();
        let (parts, units) = parts_of(&map, z);
        let vector = |dims: &[usize]| shaped(client, &z.device, dims, z.dtype);
        let (table, seen) = (vector(&[row::COUNT, map.groups, map.channels]), [(); 2].map(|()| vector(&[forwards, pitch])));
        // SAFETY: the kernels end past the parts and past the channels; parts lie on the map.
        unsafe {
            moments_kernel::launch_unchecked(
                client,
                calculate_cube_count_elemwise(client, units, dim),
                dim,
                lanes(map.channels),
                buffer(z),
                buffer(&parts),
                sizes(&map, lanes(map.channels)),
            );
            table_kernel::launch_unchecked(
                client,
                calculate_cube_count_elemwise(client, map.channels, dim),
                dim,
                buffer(&parts),
                buffer(gamma),
                buffer(beta),
                buffer(&table),
                buffer(&seen[0]),
                buffer(&seen[1]),
                sizes(&map, 1),
                splits as u32,
                pitch as u32,
                EPSILON as f32,
            );
        }
        let of = |forward: usize| seen.each_ref().map(|all| part(all, forward * pitch, map.channels));
        (Self { map, table }, (0..forwards).flat_map(of).collect())
    }

    /// Normalises by statistics that were kept.
    pub fn kept(map: Map, [gamma, beta, mean, variance]: [&CubeTensor; 4]) -> Self {
        let (client, dim) = (&gamma.client, CubeDim::new_1d(UNITS));
        let map = Map { groups: 1, ..map };
        let table = shaped(client, &gamma.device, &[row::COUNT, 1, map.channels], gamma.dtype);
        // SAFETY: the kernel ends past the channels.
        unsafe {
            kept_table_kernel::launch_unchecked(
                client,
                calculate_cube_count_elemwise(client, map.channels, dim),
                dim,
                buffer(mean),
                buffer(variance),
                buffer(gamma),
                buffer(beta),
                buffer(&table),
                map.channels as u32,
                EPSILON as f32,
            );
        }
        Self { map, table }
    }

    /// `relu(norm(z) + joined)`.
    pub fn apply(&self, z: &CubeTensor, joined: &Joined) -> CubeTensor {
        let (client, dim, map) = (&z.client, CubeDim::new_1d(UNITS), &self.map);
        let out = shaped(client, &z.device, z.meta.shape().as_slice(), z.dtype);
        let (other, table, kind) = match joined {
            Joined::Nothing => (z, &self.table, join::NOTHING),
            Joined::Map(other) => (*other, &self.table, join::MAP),
            Joined::Normed(other, norm) => (*other, &norm.table, join::NORMED),
        };
        // SAFETY: the kernel ends past the map.
        unsafe {
            apply_kernel::launch_unchecked(
                client,
                calculate_cube_count_elemwise(client, map.n * map.pixels * map.channels / lanes(map.channels), dim),
                dim,
                lanes(map.channels),
                buffer(z),
                buffer(&self.table),
                buffer(other),
                buffer(table),
                buffer(&out),
                sizes(map, lanes(map.channels)),
                kind,
            );
        }
        out
    }

    /// The gradients of what went into the norm, of gamma and of beta, from that of `y`, the ReLU's output.
    pub fn backward(&self, [slopes, z, y]: [&CubeTensor; 3], gamma: &CubeTensor, through: bool) -> Back {
        let (client, dim, map) = (&z.client, CubeDim::new_1d(UNITS), &self.map);
        let (parts, units) = parts_of(map, z);
        let vector = |dims: &[usize]| shaped(client, &z.device, dims, z.dtype);
        let (back, learned) = (vector(&[back_row::COUNT, map.groups, map.channels]), [(); 2].map(|()| vector(&[map.channels])));
        let out = vector(z.meta.shape().as_slice());
        let beside = through.then(|| vector(z.meta.shape().as_slice()));
        // SAFETY: the kernels end past the parts, past the channels and past the map; parts lie on the map.
        unsafe {
            slopes_kernel::launch_unchecked(
                client,
                calculate_cube_count_elemwise(client, units, dim),
                dim,
                lanes(map.channels),
                buffer(slopes),
                buffer(z),
                buffer(y),
                buffer(&self.table),
                buffer(&parts),
                sizes(map, lanes(map.channels)),
            );
            back_table_kernel::launch_unchecked(
                client,
                calculate_cube_count_elemwise(client, map.channels, dim),
                dim,
                buffer(&parts),
                buffer(&self.table),
                buffer(gamma),
                buffer(&back),
                buffer(&learned[0]),
                buffer(&learned[1]),
                sizes(map, 1),
            );
            spread_kernel::launch_unchecked(
                client,
                calculate_cube_count_elemwise(client, map.n * map.pixels * map.channels / lanes(map.channels), dim),
                dim,
                lanes(map.channels),
                buffer(slopes),
                buffer(z),
                buffer(y),
                buffer(&back),
                buffer(&out),
                buffer(beside.as_ref().unwrap_or(&out)),
                sizes(map, lanes(map.channels)),
                through,
            );
        }
        Back { input: out, beside, learned }
    }
}

/// What comes back through a norm.
pub struct Back {
    /// The gradient of the norm's input.
    pub input: CubeTensor,
    /// The gradient behind the ReLU, if it was asked for.
    pub beside: Option<CubeTensor>,
    /// Those of gamma and beta.
    pub learned: [CubeTensor; 2],
}
