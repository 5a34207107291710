//! Convolutions. Those of Burn use matrix units where a device has them (tensor cores); without, they are its direct ones, which load a value for
//! every two multiplications. For such devices there are kernels of ours. Maps are channels-last.
//!
//! A unit makes a tile of some pixels and some channels in registers, so that each value it loads is used several times. Forward pass and input
//! gradient are one kernel, which gathers: for every pixel and every tap it finds the pixel on the other side, if there is one.

use std::sync::Once;

use burn::backend::ops::FloatTensorOps;
use burn::tensor::Shape;
use burn::tensor::ops::ConvOptions;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::conv::{ConvStrategy, conv_data_backward, conv_forward, conv_weight_backward};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::permute_nhwc_to_nchw;
use burn_cubecl::tensor::CubeTensor;
use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::*;

use super::{UNITS, last_axis};
use crate::kernel::backend::cube::{Launch, Many, at_a_time, buffer, buffers, is_here, lanes, shaped};
use crate::kernel::net::Convolver;
use crate::kernel::net::sizes::Conv;

/// Pixels of a unit's tile.
const PIXELS: usize = 4;
/// Units of a workgroup of [`gather_kernel`]. With 256 ptxas leaves each of them 128 registers or fewer, and spills more of them (`scripts/check_ptx.sh`).
const GATHERING: u32 = 128;
/// The line of a pixel that does not exist. From there no tap leads to a map, whatever the stride (below 8) and the sides (below 2^25).
const NOWHERE: u32 = 1 << 28;
/// Parts of a weight gradient are added until about so many units work at it.
const WEIGHT_UNITS: usize = 1 << 14;

/// Sizes of a convolution as its kernels take them. Channels are counted in vectors.
#[derive(CubeLaunch, CubeType, Clone, Copy)]
struct Sizes {
    images: u32,
    from_h: u32,
    from_w: u32,
    from_c: u32,
    to_h: u32,
    to_w: u32,
    to_c: u32,
    kernel: u32,
    stride: u32,
    padding: u32,
}

/// Weights `[o, i, taps]` in the order in which [`gather_kernel`] reads them: `[taps, i, o]`, or `[taps, o, i]` for the way back. The sequences
/// have an entry for each of several convolutions.
#[cube(launch_unchecked)]
fn pack_kernel(
    weights: &Many,
    packed: &mut Many,
    counts: &Sequence<u32>,
    starts: &Sequence<u32>,
    outputs: &Sequence<u32>,
    inputs: &Sequence<u32>,
    #[comptime] back: bool,
) {
    let tensors = counts.len();
    #[unroll]
    for i in 0..tensors {
        let (count, first) = (*counts.index(i), *starts.index(i));
        let at = (CUBE_POS as u32 - first) * UNITS + UNIT_POS;
        if is_here(count, first, UNITS) && at < count {
            let (outputs, inputs) = (*outputs.index(i), *inputs.index(i));
            let pairs = outputs * inputs;
            let tap = at / pairs;
            let rest = at - tap * pairs;
            let columns = if back { inputs } else { outputs };
            let row = rest / columns;
            let column = rest - row * columns;
            let (output, input) = if back { (row, column) } else { (column, row) };
            let weight = weights.index(i);
            let own = packed.index_mut(i);
            own[at as usize] = weight[((output * inputs + input) * (count / pairs) + tap) as usize];
        }
    }
}

/// For each pixel of `out`, the sum over the taps of the pixel of `from` that the tap connects it with, times the tap's weights.
///
/// Forward, the tap `(ky, kx)` connects the pixel `(y, x)` with `(y stride + ky - padding, ..)`. On the way back (`back`) it connects `(y, x)`
/// with `(y + padding - ky, ..) / stride` where that division has no rest; pixels of equal rest are neighbours in a tile, so that it has none
/// for all of them or for none.
#[cube(launch_unchecked)]
fn gather_kernel<N: Size, M: Size>(
    from: &[Vector<f32, N>],
    weight: &[Vector<f32, M>],
    out: &mut [Vector<f32, M>],
    sizes: Sizes,
    #[comptime] blocks: usize,
    #[comptime] back: bool,
    #[comptime] add: bool,
) {
    let tiles = sizes.to_c / blocks as u32;
    let step = if back { sizes.stride } else { 1u32.runtime() };
    let h = sizes.to_h.div_ceil(step);
    let w = sizes.to_w.div_ceil(step);
    let class_size = sizes.images * h * w;
    let slots = class_size * step * step;

    let unit = ABSOLUTE_POS as u32;
    let strip = unit / tiles;
    let column = (unit - strip * tiles) * blocks as u32;
    if strip * PIXELS as u32 >= slots {
        terminate!();
    }

    let mut images = Array::<u32>::new(PIXELS);
    let mut ys = Array::<u32>::new(PIXELS);
    let mut xs = Array::<u32>::new(PIXELS);
    let mut bases = Array::<u32>::new(PIXELS);
    let mut connected = Array::<bool>::new(PIXELS);
    let mut sums = Array::<Vector<f32, M>>::new(comptime!(PIXELS * blocks));
    #[unroll]
    for p in 0..PIXELS {
        let slot = strip * PIXELS as u32 + p as u32;
        let class = slot / class_size;
        let at = slot - class * class_size;
        let image = at / (h * w);
        let pixel = at - image * (h * w);
        let line = pixel / w;
        let y = line * step + class / step;
        let x = (pixel - line * w) * step + class % step;
        images[p] = image;
        ys[p] = select(slot < slots && y < sizes.to_h && x < sizes.to_w, y, NOWHERE);
        xs[p] = x;
        #[unroll]
        for b in 0..blocks {
            sums[p * blocks + b] = Vector::new(0.0f32);
        }
    }

    for ky in 0..sizes.kernel {
        for kx in 0..sizes.kernel {
            let mut some = false;
            #[unroll]
            for p in 0..PIXELS {
                // Below zero these wrap around, to far beyond any map.
                let mut y = ys[p] * sizes.stride + ky - sizes.padding;
                let mut x = xs[p] * sizes.stride + kx - sizes.padding;
                let mut met = true;
                if back {
                    let (ty, tx) = (ys[p] + sizes.padding - ky, xs[p] + sizes.padding - kx);
                    y = ty / sizes.stride;
                    x = tx / sizes.stride;
                    met = y * sizes.stride == ty && x * sizes.stride == tx;
                }
                let inside = met && y < sizes.from_h && x < sizes.from_w;
                let base = ((images[p] * sizes.from_h + y) * sizes.from_w + x) * sizes.from_c;
                bases[p] = select(inside, base, 0);
                connected[p] = inside;
                some = some || inside;
            }
            if some {
                let mut row = (ky * sizes.kernel + kx) * sizes.from_c * N::value() as u32 * sizes.to_c + column;
                for c in 0..sizes.from_c {
                    let mut values = Array::<Vector<f32, N>>::new(PIXELS);
                    #[unroll]
                    for p in 0..PIXELS {
                        values[p] = select(connected[p], from[(bases[p] + c) as usize], Vector::new(0.0f32));
                    }
                    #[unroll]
                    for lane in 0..N::value() {
                        #[unroll]
                        for b in 0..blocks {
                            let weights = weight[(row + b as u32) as usize];
                            #[unroll]
                            for p in 0..PIXELS {
                                let sum = sums[p * blocks + b];
                                sums[p * blocks + b] = fma(Vector::new(values[p].extract(lane)), weights, sum);
                            }
                        }
                        row += sizes.to_c;
                    }
                }
            }
        }
    }

    #[unroll]
    for p in 0..PIXELS {
        if ys[p] < NOWHERE {
            let at = (((images[p] * sizes.to_h + ys[p]) * sizes.to_w + xs[p]) * sizes.to_c + column) as usize;
            #[unroll]
            for b in 0..blocks {
                let mut sum = sums[p * blocks + b];
                if add {
                    sum += out[at + b];
                }
                out[at + b] = sum;
            }
        }
    }
}

/// One part's sum over pixels of `from x gradient` for one tap: `[parts, taps, o, i]`. A part is some lines of the output. Where there is one part
/// (`whole`), it is the gradient, and lies as the weights do, `[o, i, taps]`.
#[cube(launch_unchecked)]
fn weight_kernel<N: Size, M: Size, S: Size>(
    from: &[Vector<f32, N>],
    gradient: &[Vector<f32, M>],
    parts: &mut [Vector<f32, S>],
    sizes: Sizes,
    lines: u32,
    units: u32,
    #[comptime] blocks: usize,
    #[comptime] whole: bool,
) {
    let unit = ABSOLUTE_POS as u32;
    if unit >= units {
        terminate!();
    }
    let tiles = sizes.from_c / blocks as u32;
    let taps = sizes.kernel * sizes.kernel;
    let column = (unit % tiles) * blocks as u32;
    let rest = unit / tiles;
    let output = rest % sizes.to_c;
    let part_and_tap = rest / sizes.to_c;
    let part = part_and_tap / taps;
    let tap = part_and_tap - part * taps;
    let ky = tap / sizes.kernel;
    let kx = tap - ky * sizes.kernel;

    let outputs = M::value();
    let mut sums = Array::<Vector<f32, N>>::new(comptime!(outputs * blocks));
    #[unroll]
    for k in 0..comptime!(outputs * blocks) {
        sums[k] = Vector::new(0.0f32);
    }

    // Columns whose pixel on the other side lies on its map.
    let first = (select(sizes.padding > kx, sizes.padding - kx, 0)).div_ceil(sizes.stride);
    let mut end = 0u32.runtime();
    if sizes.from_w + sizes.padding > kx {
        end = min((sizes.from_w + sizes.padding - kx - 1) / sizes.stride + 1, sizes.to_w);
    }
    let from_line = part * lines;
    let to_line = min(from_line + lines, sizes.images * sizes.to_h);
    for line in from_line..to_line {
        let image = line / sizes.to_h;
        let y = (line - image * sizes.to_h) * sizes.stride + ky - sizes.padding;
        if y < sizes.from_h {
            let start = (image * sizes.from_h + y) * sizes.from_w;
            for x in first..end {
                let slopes = gradient[((line * sizes.to_w + x) * sizes.to_c + output) as usize];
                let at = (start + x * sizes.stride + kx - sizes.padding) * sizes.from_c + column;
                #[unroll]
                for b in 0..blocks {
                    let values = from[(at + b as u32) as usize];
                    #[unroll]
                    for lane in 0..M::value() {
                        let sum = sums[lane * blocks + b];
                        sums[lane * blocks + b] = fma(Vector::new(slopes.extract(lane)), values, sum);
                    }
                }
            }
        }
    }
    let rows = sizes.to_c * M::value() as u32;
    #[unroll]
    for lane in 0..M::value() {
        let row = output * M::value() as u32 + lane as u32;
        #[unroll]
        for b in 0..blocks {
            let sum = sums[lane * blocks + b];
            let vector = column + b as u32;
            if whole {
                #[unroll]
                for k in 0..N::value() {
                    let input = vector * N::value() as u32 + k as u32;
                    let at = (row * sizes.from_c * N::value() as u32 + input) * taps + tap;
                    parts[at as usize] = Vector::new(sum.extract(k));
                }
            } else {
                let at = (part_and_tap * rows + row) * sizes.from_c + vector;
                parts[at as usize] = Vector::cast_from(sum);
            }
        }
    }
}

/// The parts of a weight gradient, added in their order and brought into PyTorch's: `[parts, taps, o, i]` to `[o, i, taps]`.
#[cube(launch_unchecked)]
fn unpack_kernel(parts: &[f32], gradient: &mut [f32], count: u32, taps: u32, pairs: u32) {
    let at = ABSOLUTE_POS as u32;
    if at >= taps * pairs {
        terminate!();
    }
    let mut sum = 0.0f32;
    for part in 0..count {
        sum += parts[(part * taps * pairs + at) as usize];
    }
    let tap = at / pairs;
    gradient[((at - tap * pairs) * taps + tap) as usize] = sum;
}

/// Weights `[o, i, k, k]` of several convolutions as [`gather`] reads them.
fn pack(weights: &[&CubeTensor], back: bool) -> Vec<CubeTensor> {
    // On the way back the weights of a 1x1 convolution lie as they should.
    let lies = |weight: &CubeTensor| back && last_axis(weight) == 1;
    let like = |weight: &&CubeTensor| match lies(weight) {
        true => (*weight).clone(),
        false => shaped(&weight.client, &weight.device, weight.meta.shape().as_slice(), weight.dtype),
    };
    let packed: Vec<CubeTensor> = weights.iter().map(like).collect();
    let moved: Vec<(&CubeTensor, &CubeTensor)> = weights.iter().copied().zip(&packed).filter(|(weight, _)| !lies(weight)).collect();
    let Some((one, _)) = moved.first() else { return packed };
    let client = &one.client;
    for some in moved.chunks(at_a_time(client, 2)) {
        let launch = Launch::of(some.iter().map(|(weight, _)| *weight), UNITS);
        let axis = |which: usize| some.iter().map(|(weight, _)| weight.meta.shape()[which] as u32).collect();
        // SAFETY: the kernel ends where `at` is past the weights, of which the packed ones are as many.
        unsafe {
            pack_kernel::launch_unchecked(
                client,
                launch.cubes(client, UNITS),
                CubeDim::new_1d(UNITS),
                buffers(some.iter().map(|(weight, _)| *weight)),
                buffers(some.iter().map(|(_, packed)| *packed)),
                launch.counts,
                launch.starts,
                axis(0),
                axis(1),
                back,
            );
        }
    }
    packed
}

/// Blocks of a tile along an axis of so many vectors.
fn blocks(vectors: usize) -> usize {
    if vectors.is_multiple_of(2) { 2 } else { 1 }
}

fn sizes(conv: &Conv, [from_c, to_c]: [usize; 2], back: bool) -> SizesLaunch {
    let [h, w] = conv.out_size();
    let ([from_h, from_w], [to_h, to_w]) = if back { ([h, w], conv.size) } else { (conv.size, [h, w]) };
    let [images, from_h, from_w, from_c, to_h, to_w, to_c] =
        [conv.n, from_h, from_w, from_c, to_h, to_w, to_c].map(|size| u32::try_from(size).expect("sizes of a map fit 32 bits"));
    let [kernel, stride, padding] = [conv.kernel, conv.stride, conv.padding].map(|size| size as u32);
    SizesLaunch::new(images, from_h, from_w, from_c, to_h, to_w, to_c, kernel, stride, padding)
}

/// Whose convolutions a device takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The kernels of this file.
    Ours,
    /// Burn's.
    Burn,
}

impl Whose {
    /// Those that are asked for, or the fastest for the device of a tensor.
    pub fn chosen(convolver: Convolver, tensor: &CubeTensor) -> Self {
        let units = &tensor.client.properties().features.matmul;
        match convolver {
            Convolver::Own => Self::Ours,
            Convolver::Burn => Self::Burn,
            Convolver::Auto if units.cmma.is_empty() && units.mma.is_empty() => Self::Ours,
            Convolver::Auto => Self::Burn,
        }
    }
}

/// A convolution by Burn: tuned where tuning is built in; otherwise by implicit GEMM, by name, and where that refuses the device or the shape, by
/// the direct one, which takes all and is slow. That is said once.
fn by_burn<E: std::fmt::Debug>(convolve: impl Fn(ConvStrategy) -> Result<CubeTensor, E>) -> CubeTensor {
    static SAID: Once = Once::new();
    let first = if cfg!(feature = "autotune") { ConvStrategy::default() } else { ConvStrategy::ImplicitGemm };
    let direct = |refused: E| {
        SAID.call_once(|| {
            eprintln!(
                "warning: Burn's implicit GEMM refuses a convolution here ({refused:?}); its direct kernel runs, which is slow\n  \
                 hint: leave `kernels.convolution` at auto, or build with --features autotune"
            );
        });
        convolve(ConvStrategy::Direct)
    };
    convolve(first).or_else(direct).expect("the direct convolution takes every shape")
}

fn options(conv: &Conv) -> ConvOptions<2> {
    ConvOptions::new([conv.stride; 2], [conv.padding; 2], [1, 1], 1)
}

/// Weights `[o, i, k, k]` of several convolutions, made ready for one direction, `back` being the way to the input's gradient.
pub fn ready(weights: &[&CubeTensor], back: bool, whose: Whose) -> Vec<CubeTensor> {
    match whose {
        Whose::Ours => pack(weights, back),
        Whose::Burn => weights.iter().map(|weight| (*weight).clone()).collect(),
    }
}

/// `[n, h', w', o]` of the input `[n, h, w, i]` and weights made ready for this direction.
pub fn forward(conv: &Conv, x: &CubeTensor, weight: &CubeTensor, whose: Whose) -> CubeTensor {
    match whose {
        Whose::Ours => {
            let out = shaped(&x.client, &x.device, &conv.out_dims(), x.dtype);
            gather(conv, x, weight, &out, false, false);
            out
        }
        Whose::Burn => {
            let x = permute_nhwc_to_nchw(x.clone());
            super::channels_last(by_burn(|strategy| conv_forward(x.clone(), weight.clone(), None, options(conv), strategy)))
        }
    }
}

/// The input's gradient `[n, h, w, i]` from the output's `[n, h', w', o]` and weights made ready for this direction, added to `before` if there
/// is such.
pub fn input_gradient(
    conv: &Conv,
    slopes: &CubeTensor,
    weight: &CubeTensor,
    before: Option<CubeTensor>,
    whose: Whose,
) -> CubeTensor {
    let dims = [conv.n, conv.size[0], conv.size[1], conv.input];
    match whose {
        Whose::Ours => {
            let add = before.is_some();
            let out = before.unwrap_or_else(|| shaped(&slopes.client, &slopes.device, &dims, slopes.dtype));
            gather(conv, slopes, weight, &out, true, add);
            out
        }
        Whose::Burn => {
            let slopes = permute_nhwc_to_nchw(slopes.clone());
            let shape = Shape::new([conv.n, conv.input, conv.size[0], conv.size[1]]);
            let found = super::channels_last(by_burn(|strategy| {
                conv_data_backward(slopes.clone(), weight.clone(), shape.clone(), options(conv), strategy)
            }));
            match before {
                Some(before) => CubeBackend::float_add(before, found),
                None => found,
            }
        }
    }
}

/// The weights' gradient `[o, i, k, k]` from the input `[n, h, w, i]` and the output's gradient `[n, h', w', o]`.
pub fn weight_gradient(conv: &Conv, x: &CubeTensor, slopes: &CubeTensor, whose: Whose) -> CubeTensor {
    match whose {
        Whose::Ours => sum_of_parts(conv, x, slopes),
        Whose::Burn => {
            let [x, slopes] = [x, slopes].map(|map| permute_nhwc_to_nchw(map.clone()));
            let shape = Shape::new([conv.output, conv.input, conv.kernel, conv.kernel]);
            into_contiguous(by_burn(|strategy| {
                conv_weight_backward(x.clone(), slopes.clone(), shape.clone(), options(conv), strategy)
            }))
        }
    }
}

/// The convolution of `from` `[n, h, w, i]` into `out` `[n, h', w', o]`; `back` is the way from the output's gradient to the input's, `add`
/// adds to what `out` holds. `packed` are the weights of this direction.
fn gather(conv: &Conv, from: &CubeTensor, packed: &CubeTensor, out: &CubeTensor, back: bool, add: bool) {
    let (from_c, to_c) = (last_axis(from), last_axis(out));
    let (n, m) = (lanes(from_c), lanes(to_c));
    let blocks = blocks(to_c / m);
    let step = if back { conv.stride } else { 1 };
    let [h, w] = if back { conv.size } else { conv.out_size() };
    assert!(conv.stride < 8 && h.max(w) < 1 << 25, "a convolution of stride {} on {h} x {w} pixels", conv.stride);
    let slots = conv.n * h.div_ceil(step) * w.div_ceil(step) * step * step;
    let units = slots.div_ceil(PIXELS) * (to_c / m / blocks);
    let dim = CubeDim::new_1d(GATHERING);
    // SAFETY: the kernel ends where its strip is past the pixels; it reads a pixel of `from` where it lies on the map alone, else the first.
    unsafe {
        gather_kernel::launch_unchecked(
            &from.client,
            calculate_cube_count_elemwise(&from.client, units, dim),
            dim,
            n,
            m,
            buffer(from),
            buffer(packed),
            buffer(out),
            sizes(conv, [from_c / n, to_c / m], back),
            blocks,
            back,
            add,
        );
    }
}

/// The weights' gradient by our kernels. The parts and their order depend on the sizes alone.
fn sum_of_parts(conv: &Conv, from: &CubeTensor, gradient: &CubeTensor) -> CubeTensor {
    let (client, device) = (&from.client, &from.device);
    let (n, m) = (lanes(conv.input), lanes(conv.output));
    let blocks = blocks(conv.input / n);
    let taps = conv.kernel * conv.kernel;
    let pairs = conv.output * conv.input;
    let per_part = taps * (conv.output / m) * (conv.input / n / blocks);
    let all_lines = conv.n * conv.out_size()[0];
    let lines = all_lines.div_ceil(WEIGHT_UNITS.div_ceil(per_part).min(all_lines));
    let count = all_lines.div_ceil(lines);
    let units = count * per_part;
    let whole = count == 1;
    let gradient_of = || shaped(client, device, &[conv.output, conv.input, conv.kernel, conv.kernel], from.dtype);
    let parts = if whole { gradient_of() } else { shaped(client, device, &[count * taps * pairs], from.dtype) };
    let dim = CubeDim::new_1d(UNITS);
    // SAFETY: the kernel ends where `unit` is past the parts; lines and columns stay on their maps.
    unsafe {
        weight_kernel::launch_unchecked(
            client,
            calculate_cube_count_elemwise(client, units, dim),
            dim,
            n,
            m,
            if whole { 1 } else { n },
            buffer(from),
            buffer(gradient),
            buffer(&parts),
            sizes(conv, [conv.input / n, conv.output / m], false),
            lines as u32,
            units as u32,
            blocks,
            whole,
        );
    }
    if whole {
        return parts;
    }
    let sum = gradient_of();
    // SAFETY: the kernel ends where `at` is past the gradient.
    unsafe {
        unpack_kernel::launch_unchecked(
            client,
            calculate_cube_count_elemwise(client, taps * pairs, dim),
            dim,
            buffer(&parts),
            buffer(&sum),
            count as u32,
            taps as u32,
            pairs as u32,
        );
    }
    sum
}
