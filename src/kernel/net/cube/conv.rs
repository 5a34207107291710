//! Convolutions as CubeCL kernels of ours, for devices whose matrix units Burn cannot use. Maps are channels-last.
//!
//! A unit makes a tile of some pixels and some channels in registers, so that each value it loads is used several times. Forward pass and input
//! gradient are one kernel, which gathers: for every pixel and every tap it finds the pixel on the other side, if there is one.

use burn_cubecl::tensor::CubeTensor;
use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::*;

use super::{Conv, UNITS, buffer, last_axis};
use crate::kernel::backend::cube::{lanes, shaped};

/// Pixels of a unit's tile.
const PIXELS: usize = 4;
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

/// Weights `[o, i, taps]` in the order in which [`gather_kernel`] reads them: `[taps, i, o]`, or `[taps, o, i]` for the way back.
#[cube(launch_unchecked)]
fn pack_kernel(weight: &[f32], packed: &mut [f32], outputs: u32, inputs: u32, taps: u32, #[comptime] back: bool) {
    let at = ABSOLUTE_POS as u32;
    if at >= outputs * inputs * taps {
        terminate!();
    }
    let tap = at / (outputs * inputs);
    let rest = at - tap * (outputs * inputs);
    let columns = if back { inputs } else { outputs };
    let row = rest / columns;
    let column = rest - row * columns;
    let (output, input) = if back { (row, column) } else { (column, row) };
    packed[at as usize] = weight[((output * inputs + input) * taps + tap) as usize];
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
    let mut real = Array::<bool>::new(PIXELS);
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
        ys[p] = y;
        xs[p] = x;
        real[p] = slot < slots && y < sizes.to_h && x < sizes.to_w;
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
                let inside = real[p] && met && y < sizes.from_h && x < sizes.from_w;
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
        if real[p] {
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

/// One part's sum over pixels of `from x gradient` for one tap: `[parts, taps, o, i]`. A part is some lines of the output.
#[cube(launch_unchecked)]
fn weight_kernel<N: Size, M: Size>(
    from: &[Vector<f32, N>],
    gradient: &[Vector<f32, M>],
    parts: &mut [Vector<f32, N>],
    sizes: Sizes,
    lines: u32,
    units: u32,
    #[comptime] blocks: usize,
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
    let row = part_and_tap * sizes.to_c * M::value() as u32 + output * M::value() as u32;
    #[unroll]
    for lane in 0..M::value() {
        #[unroll]
        for b in 0..blocks {
            parts[((row + lane as u32) * sizes.from_c + column + b as u32) as usize] = sums[lane * blocks + b];
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

/// Weights as [`gather`] reads them.
pub fn pack(conv: &Conv, weight: &CubeTensor, back: bool) -> CubeTensor {
    let taps = conv.kernel * conv.kernel;
    if taps == 1 && back {
        return weight.clone();
    }
    let count = conv.output * conv.input * taps;
    let packed = shaped(&weight.client, &weight.device, &[count], weight.dtype);
    let dim = CubeDim::new_1d(UNITS);
    // SAFETY: the kernel ends where `at` is past the weights, which are as many as the packed ones.
    unsafe {
        pack_kernel::launch_unchecked(
            &weight.client,
            calculate_cube_count_elemwise(&weight.client, count, dim),
            dim,
            buffer(weight),
            buffer(&packed),
            conv.output as u32,
            conv.input as u32,
            taps as u32,
            back,
        );
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

/// The convolution of `from` `[n, h, w, i]` into `out` `[n, h', w', o]`; `back` is the way from the output's gradient to the input's, `add`
/// adds to what `out` holds. `packed` are the weights of this direction.
pub fn gather(conv: &Conv, from: &CubeTensor, packed: &CubeTensor, out: &CubeTensor, back: bool, add: bool) {
    let (from_c, to_c) = (last_axis(from), last_axis(out));
    let (n, m) = (lanes(from_c), lanes(to_c));
    let blocks = blocks(to_c / m);
    let step = if back { conv.stride } else { 1 };
    let [h, w] = if back { conv.size } else { conv.out_size() };
    let slots = conv.n * h.div_ceil(step) * w.div_ceil(step) * step * step;
    let units = slots.div_ceil(PIXELS) * (to_c / m / blocks);
    let dim = CubeDim::new_1d(UNITS);
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

/// The weights' gradient `[o, i, k, k]` from the input `[n, h, w, i]` and the output's gradient `[n, h', w', o]`. The parts and their order
/// depend on the sizes alone.
pub fn weight_gradient(conv: &Conv, from: &CubeTensor, gradient: &CubeTensor) -> CubeTensor {
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
    let parts = shaped(client, device, &[count * taps * pairs], from.dtype);
    let dim = CubeDim::new_1d(UNITS);
    // SAFETY: the kernel ends where `unit` is past the parts; lines and columns stay on their maps.
    unsafe {
        weight_kernel::launch_unchecked(
            client,
            calculate_cube_count_elemwise(client, units, dim),
            dim,
            n,
            m,
            buffer(from),
            buffer(gradient),
            buffer(&parts),
            sizes(conv, [conv.input / n, conv.output / m], false),
            lines as u32,
            units as u32,
            blocks,
        );
    }
    let dims = [conv.output, conv.input, conv.kernel, conv.kernel];
    let sum = shaped(client, device, &dims, from.dtype);
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
