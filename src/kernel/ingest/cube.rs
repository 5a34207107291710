//! The ingest as CubeCL kernels: the twins of `shaders/ingest.wgsl` and `shaders/ingest_mix.wgsl`.

use burn::backend::cubecl::dtype_to_storage_type;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{ByteLayout, Ingest, wgsl};
use crate::colour::{CONSTANT_WORDS, Curve, WHITE_UV};
use crate::kernel::backend::cube::{grid, lanes, output, upload};
use crate::kernel::backend::wgsl::WORKGROUP;
use crate::kernel::mix::StageJob;
use crate::kernel::mix::cube::{apply_row, quotient, reads_partner, resized_from, resizes, size, word};
use crate::kernel::mix::wgsl::{info, rows};
use crate::kernel::path::ran;
use crate::kernel::{KernelPath, Op};
use crate::mixture::plan::ROW_WORDS;

/// u' and v' of white.
const WHITE_U: f32 = WHITE_UV[0] as f32;
const WHITE_V: f32 = WHITE_UV[1] as f32;

/// `N` neighbouring pixels of one channel; `step` is the distance in bytes between them.
#[cube]
fn read<N: Size>(
    words: &[u32],
    image: usize,
    channel: usize,
    pixel: usize,
    plane: usize,
    #[comptime] step: usize,
) -> Vector<f32, N> {
    let mut values = Vector::<f32, N>::empty();
    if comptime!(step == 1) {
        let first = (image * 3 + channel) * plane + pixel;
        let lanes = N::value();
        if comptime!(lanes == 4) {
            // The first byte's index is a multiple of 4: one word.
            let word = words[first / 4];
            #[unroll]
            for lane in 0..N::value() {
                values.insert(lane, f32::cast_from((word >> (8 * lane as u32)) & 255));
            }
        } else {
            #[unroll]
            for lane in 0..N::value() {
                values.insert(lane, byte(words, first + lane));
            }
        }
    } else {
        let first = (image * plane + pixel) * 3 + channel;
        #[unroll]
        for lane in 0..N::value() {
            values.insert(lane, byte(words, first + lane * step));
        }
    }
    values
}

#[cube]
fn byte(words: &[u32], index: usize) -> f32 {
    f32::cast_from((words[index / 4] >> (8 * (index % 4) as u32)) & 255)
}

/// Row `c` of the matrix, applied to a pixel.
#[cube]
fn matrix_row<N: Size>(
    constants: &[f32],
    #[comptime] c: usize,
    r: Vector<f32, N>,
    g: Vector<f32, N>,
    b: Vector<f32, N>,
) -> Vector<f32, N> {
    let w = comptime!(c * 4);
    Vector::new(constants[w]) * r
        + Vector::new(constants[w + 1]) * g
        + Vector::new(constants[w + 2]) * b
        + Vector::new(constants[w + 3])
}

/// What the matrix takes of sRGB bytes: linear light, optical density in units of the darkest, or the bytes.
#[cube]
fn input<N: Size>(bytes: Vector<f32, N>, #[comptime] curve: Curve) -> Vector<f32, N> {
    let unit = bytes / Vector::new(255.0f32);
    if comptime!(matches!(curve, Curve::Light | Curve::Lab | Curve::Luv)) {
        let light = ((unit + Vector::new(0.055f32)) / Vector::new(1.055f32)).powf(Vector::new(2.4f32));
        select_many(unit.less_equal(&Vector::new(0.04045f32)), unit / Vector::new(12.92f32), light)
    } else if comptime!(curve == Curve::Hed) {
        max(unit, Vector::new(1e-6f32)).ln() / Vector::new(-13.815511f32)
    } else {
        bytes
    }
}

/// Cube root of numbers above the knee of Lab and LUV. One Newton step mends the last bits of `powf`.
#[cube]
fn cube_root<N: Size>(t: Vector<f32, N>) -> Vector<f32, N> {
    let safe = max(t, Vector::new(0.008856f32));
    let near = safe.powf(Vector::new(1.0f32 / 3.0f32));
    near - (near * near * near - safe) / (Vector::new(3.0f32) * near * near)
}

/// Lab's curve of X, Y or Z over white: a cube root, and a line below the knee.
#[cube]
fn lab_curve<N: Size>(t: Vector<f32, N>) -> Vector<f32, N> {
    let line = Vector::new(7.787f32) * t + Vector::new(16.0f32 / 116.0f32);
    select_many(t.greater_than(&Vector::new(0.008856f32)), cube_root::<N>(t), line)
}

#[cube]
fn luv<N: Size>(x: Vector<f32, N>, y: Vector<f32, N>, z: Vector<f32, N>) -> (Vector<f32, N>, Vector<f32, N>, Vector<f32, N>) {
    let root = Vector::new(116.0f32) * cube_root::<N>(y) - Vector::new(16.0f32);
    let lightness = select_many(y.greater_than(&Vector::new(0.008856f32)), root, Vector::new(903.3f32) * y);
    // The least of any other colour than black is 1e-3.
    let sum = max(x + Vector::new(15.0f32) * y + Vector::new(3.0f32) * z, Vector::new(1e-6f32));
    let u = Vector::new(4.0f32) * x / sum - Vector::new(WHITE_U);
    let v = Vector::new(9.0f32) * y / sum - Vector::new(WHITE_V);
    (lightness, lightness * u, lightness * v)
}

/// Of bytes, which are whole numbers: comparisons are exact and a difference is 0 or at least 1. Grey, whose channels all are the
/// largest, falls to red's sector and there to hue 0.
#[cube]
fn hsv<N: Size>(r: Vector<f32, N>, g: Vector<f32, N>, b: Vector<f32, N>) -> (Vector<f32, N>, Vector<f32, N>, Vector<f32, N>) {
    let one = Vector::new(1.0f32);
    let top = max(max(r, g), b);
    let spread = top - min(min(r, g), b);
    let divisor = max(spread, one);
    let around = (g - b) / divisor;
    let red = select_many(around.less_than(&Vector::new(0.0f32)), around + Vector::new(6.0f32), around);
    let green = (b - r) / divisor + Vector::new(2.0f32);
    let blue = (r - g) / divisor + Vector::new(4.0f32);
    let hue = select_many(r.equal(&top), red, select_many(g.equal(&top), green, blue));
    (hue, spread / max(top, one), top)
}

/// What follows the matrix: the table of [`Constants`](crate::colour::Constants).
#[cube]
fn curved<N: Size>(
    a: Vector<f32, N>,
    b: Vector<f32, N>,
    c: Vector<f32, N>,
    #[comptime] curve: Curve,
) -> (Vector<f32, N>, Vector<f32, N>, Vector<f32, N>) {
    if comptime!(curve == Curve::Lab) {
        let y = lab_curve::<N>(b);
        (y, lab_curve::<N>(a) - y, y - lab_curve::<N>(c))
    } else if comptime!(curve == Curve::Luv) {
        luv::<N>(a, b, c)
    } else if comptime!(curve == Curve::Hsv) {
        hsv::<N>(a, b, c)
    } else {
        let none = Vector::new(0.0f32);
        (max(a, none), max(b, none), max(c, none))
    }
}

#[cube(launch_unchecked)]
fn ingest_kernel<F: Float, N: Size>(
    words: &[u32],
    constants: &[f32],
    images: &mut [Vector<F, N>],
    info: &[u32],
    #[comptime] step: usize,
    #[comptime] curve: Curve,
    #[define(F)] _dtype: ElemType,
) {
    let plane = info[1] as usize;
    let vectors = info[2] as usize;
    let image = (CUBE_POS_Y + CUBE_POS_Z * CUBE_COUNT_Y) as usize;
    let at = (CUBE_POS_X * CUBE_DIM + UNIT_POS) as usize;
    if image >= info[0] as usize || at >= vectors {
        terminate!();
    }
    let pixel = at * N::value();
    let r = input::<N>(read::<N>(words, image, 0usize, pixel, plane, step), curve);
    let g = input::<N>(read::<N>(words, image, 1usize, pixel, plane, step), curve);
    let b = input::<N>(read::<N>(words, image, 2usize, pixel, plane, step), curve);
    let x = matrix_row::<N>(constants, 0usize, r, g, b);
    let y = matrix_row::<N>(constants, 1usize, r, g, b);
    let z = matrix_row::<N>(constants, 2usize, r, g, b);
    let out = image * 3 * vectors + at;
    if comptime!(curve.ends_with_matrix()) {
        images[out] = Vector::cast_from(x);
        images[out + vectors] = Vector::cast_from(y);
        images[out + 2 * vectors] = Vector::cast_from(z);
    } else {
        let (x, y, z) = curved::<N>(x, y, z, curve);
        images[out] = Vector::cast_from(x * Vector::new(constants[12]) + Vector::new(constants[15]));
        images[out + vectors] = Vector::cast_from(y * Vector::new(constants[13]) + Vector::new(constants[16]));
        images[out + 2 * vectors] = Vector::cast_from(z * Vector::new(constants[14]) + Vector::new(constants[17]));
    }
}

/// The normalised values of an image at vector `at`, RGB.
#[cube]
fn image_values<N: Size>(
    words: &[u32],
    constants: &[f32],
    info: &[u32],
    image: usize,
    at: usize,
    #[comptime] step: usize,
) -> Vector<f32, N> {
    let plane = info[size::PLANE] as usize;
    let first = at * N::value();
    let channel = quotient(first as u32, info[size::PLANE]) as usize;
    let bytes = read::<N>(words, image, channel, first - channel * plane, plane, step);
    bytes * Vector::new(constants[channel * 5]) + Vector::new(constants[channel * 4 + 3])
}

/// Normalised value `at` of an image, RGB.
#[cube]
fn image_value(words: &[u32], constants: &[f32], info: &[u32], image: usize, at: usize, #[comptime] step: usize) -> f32 {
    let plane = info[size::PLANE] as usize;
    let channel = quotient(at as u32, info[size::PLANE]) as usize;
    let pixel = at - channel * plane;
    let mut first = (image * 3 + channel) * plane + pixel;
    if comptime!(step == 3) {
        first = (image * plane + pixel) * 3 + channel;
    }
    byte(words, first) * constants[channel * 5] + constants[channel * 4 + 3]
}

#[cube(launch_unchecked)]
fn ingest_mix_kernel<F: Float, N: Size>(
    words: &[u32],
    constants: &[f32],
    rows: &[u32],
    mixed: &mut [Vector<F, N>],
    info: &[u32],
    #[comptime] step: usize,
    #[define(F)] _dtype: ElemType,
) {
    let vectors = info[size::VECTORS] as usize;
    let image = (CUBE_POS_Y + CUBE_POS_Z * CUBE_COUNT_Y) as usize;
    let at = (CUBE_POS_X * CUBE_DIM + UNIT_POS) as usize;
    if image >= info[size::KEEP] as usize || at >= vectors {
        terminate!();
    }
    let mut own = image_values::<N>(words, constants, info, image, at, step);
    for pass in 0..info[size::PASSES] as usize {
        let row = (pass * info[size::IMAGES] as usize + image) * ROW_WORDS;
        let mut other = own;
        if reads_partner(rows, row) {
            other = image_values::<N>(words, constants, info, rows[row + word::PARTNER] as usize, at, step);
        } else if resizes(rows, row) {
            let partner = rows[row + word::PARTNER] as usize;
            #[unroll]
            for lane in 0..N::value() {
                let from = resized_from(rows, info, row, at * N::value() + lane);
                other.insert(lane, image_value(words, constants, info, partner, from, step));
            }
        }
        own = apply_row::<N>(rows, info, row, own, other, at);
    }
    mixed[image * vectors + at] = Vector::cast_from(own);
}

/// Distance in bytes between the pixels of a channel.
fn step(how: &Ingest) -> usize {
    if how.layout == ByteLayout::Hwc { 3 } else { 1 }
}

/// Packed bytes to images. A unit makes `lanes` pixels with all their channels.
pub fn ingest(words: CubeTensor, how: &Ingest) -> CubeTensor {
    let (client, device) = (words.client.clone(), words.device.clone());
    let lanes = lanes(how.dims[1] * how.dims[2]);
    let images = output(&client, &device, how.shape(), how.dtype);
    let (info, (blocks, count)) = wgsl::info(how, lanes);
    let (x, y, z) = grid(blocks, count);
    // SAFETY: the kernel ends where `image` or `at` is past its buffers; the words hold all bytes of the images.
    unsafe {
        ingest_kernel::launch_unchecked(
            &client,
            CubeCount::Static(x, y, z),
            CubeDim::new_1d(WORKGROUP as u32),
            lanes,
            BufferArg::from_raw_parts(words.handle, how.bytes().div_ceil(4)),
            BufferArg::from_raw_parts(upload(&client, &wgsl::constants(how)), CONSTANT_WORDS),
            BufferArg::from_raw_parts(images.handle.clone(), how.bytes()),
            BufferArg::from_raw_parts(upload(&client, &info), info.len()),
            step(how),
            how.norm.space.curve(),
            dtype_to_storage_type(how.dtype),
        );
    }
    ran(Op::Ingest, KernelPath::Cube);
    images
}

/// Packed bytes to mixed images, RGB only.
pub fn ingest_mix(words: CubeTensor, how: &Ingest, job: &StageJob) -> CubeTensor {
    let (client, device) = (words.client.clone(), words.device.clone());
    let [_, c, h, w] = how.shape();
    let lanes = lanes(w);
    let mixed = output(&client, &device, [job.keep, c, h, w], how.dtype);
    let (info, groups) = info(job, how.shape(), lanes, 1);
    let (x, y, z) = grid(groups.0, groups.1);
    let rows = rows(job);
    // SAFETY: as in `ingest`, and partners are below T in a validated plan.
    unsafe {
        ingest_mix_kernel::launch_unchecked(
            &client,
            CubeCount::Static(x, y, z),
            CubeDim::new_1d(WORKGROUP as u32),
            lanes,
            BufferArg::from_raw_parts(words.handle, how.bytes().div_ceil(4)),
            BufferArg::from_raw_parts(upload(&client, &wgsl::constants(how)), CONSTANT_WORDS),
            BufferArg::from_raw_parts(upload(&client, &rows), rows.len()),
            BufferArg::from_raw_parts(mixed.handle.clone(), job.keep * c * h * w),
            BufferArg::from_raw_parts(upload(&client, &info), info.len()),
            step(how),
            dtype_to_storage_type(how.dtype),
        );
    }
    ran(Op::IngestMix, KernelPath::Cube);
    mixed
}
