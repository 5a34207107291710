//! The ingest as CubeCL kernels: the twins of `shaders/ingest.wgsl` and `shaders/ingest_mix.wgsl`.

use burn::backend::cubecl::dtype_to_storage_type;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{ByteLayout, Ingest, wgsl};
use crate::kernel::colour::{CONSTANT_WORDS, ColorSpace};
use crate::kernel::gpu::{grid, lanes, output, upload};
use crate::kernel::mix::StageJob;
use crate::kernel::mix::cube::{apply_row, quotient, reads_partner, size, word};
use crate::kernel::mix::wgsl::{info, rows};
use crate::kernel::path::ran;
use crate::kernel::shader::WORKGROUP;
use crate::kernel::{KernelPath, Op};
use crate::mixture::plan::ROW_WORDS;

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

/// Linear light of sRGB bytes.
#[cube]
fn linear<N: Size>(bytes: Vector<f32, N>) -> Vector<f32, N> {
    let unit = bytes / Vector::new(255.0f32);
    let curve = ((unit + Vector::new(0.055f32)) / Vector::new(1.055f32)).powf(Vector::new(2.4f32));
    select_many(unit.less_equal(&Vector::new(0.04045f32)), unit / Vector::new(12.92f32), curve)
}

/// Lab's curve of X, Y or Z over white: a cube root, and a line below the knee. One Newton step mends the last bits of `powf`.
#[cube]
fn lab_curve<N: Size>(t: Vector<f32, N>) -> Vector<f32, N> {
    let knee = Vector::new(0.008856f32);
    let safe = select_many(t.greater_than(&knee), t, knee);
    let near = safe.powf(Vector::new(1.0f32 / 3.0f32));
    let root = near - (near * near * near - safe) / (Vector::new(3.0f32) * near * near);
    select_many(t.greater_than(&knee), root, Vector::new(7.787f32) * t + Vector::new(16.0f32 / 116.0f32))
}

#[cube(launch_unchecked)]
fn ingest_kernel<F: Float, N: Size>(
    words: &[u32],
    constants: &[f32],
    images: &mut [Vector<F, N>],
    info: &[u32],
    #[comptime] step: usize,
    #[comptime] lab: bool,
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
    let r = read::<N>(words, image, 0usize, pixel, plane, step);
    let g = read::<N>(words, image, 1usize, pixel, plane, step);
    let b = read::<N>(words, image, 2usize, pixel, plane, step);
    let out = image * 3 * vectors + at;
    if comptime!(lab) {
        let r = linear::<N>(r);
        let g = linear::<N>(g);
        let b = linear::<N>(b);
        let x = lab_curve::<N>(matrix_row::<N>(constants, 0usize, r, g, b));
        let y = lab_curve::<N>(matrix_row::<N>(constants, 1usize, r, g, b));
        let z = lab_curve::<N>(matrix_row::<N>(constants, 2usize, r, g, b));
        images[out] = Vector::cast_from(y * Vector::new(constants[12]) + Vector::new(constants[15]));
        images[out + vectors] = Vector::cast_from((x - y) * Vector::new(constants[13]) + Vector::new(constants[16]));
        images[out + 2 * vectors] = Vector::cast_from((y - z) * Vector::new(constants[14]) + Vector::new(constants[17]));
    } else {
        images[out] = Vector::cast_from(matrix_row::<N>(constants, 0usize, r, g, b));
        images[out + vectors] = Vector::cast_from(matrix_row::<N>(constants, 1usize, r, g, b));
        images[out + 2 * vectors] = Vector::cast_from(matrix_row::<N>(constants, 2usize, r, g, b));
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
            how.norm.space == ColorSpace::Lab,
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
