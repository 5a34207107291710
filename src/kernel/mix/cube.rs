//! The mixture as a CubeCL kernel: the twin of `shaders/mix.wgsl`, for CUDA and every compiler of wgpu. The two are to be read side by side.

use burn::backend::cubecl::dtype_to_storage_type;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::StageJob;
use super::wgsl::{info, rows};
use crate::kernel::backend::cube::{dims, grid, lanes, output, upload};
use crate::kernel::backend::wgsl::WORKGROUP;
use crate::kernel::path::ran;
use crate::kernel::{KernelPath, Op};
use crate::mixture::plan::{Kind, ROW_WORDS};

/// Words of a row, as in `ROW_LAYOUT`.
pub mod word {
    pub const KIND: usize = 0;
    pub const PARTNER: usize = 1;
    pub const LAMBDA: usize = 2;
    pub const Y0: usize = 3;
    pub const X0: usize = 4;
    pub const Y1: usize = 5;
    pub const X1: usize = 6;
    pub const OWN_SCALE: usize = 7;
    pub const FILL_VALUE: usize = 8;
}

/// Places of the sizes in a launch's info, as in `Info` of `shaders/plan_row.wgsl`.
pub mod size {
    pub const IMAGES: usize = 0;
    pub const KEEP: usize = 1;
    pub const PASSES: usize = 2;
    pub const HEIGHT: usize = 3;
    pub const WIDTH: usize = 4;
    pub const PLANE: usize = 5;
    pub const VECTORS: usize = 6;
}

const COPY: u32 = Kind::Copy as u32;
const BLEND: u32 = Kind::Blend as u32;
const PASTE: u32 = Kind::Paste as u32;
const FILL: u32 = Kind::Fill as u32;
const RESIZE: u32 = Kind::Resize as u32;

/// a / b for quotients below 2^22, where the float quotient is off by one at the most: cheaper than integer division.
#[cube]
pub fn quotient(a: u32, b: u32) -> u32 {
    let near = u32::cast_from(f32::cast_from(a) / f32::cast_from(b));
    let product = near * b;
    let above = product > a;
    let below = !above && a - product >= b;
    select(above, near - 1, select(below, near + 1, near))
}

/// Does this row read its partner at its own place?
#[cube]
pub fn reads_partner(rows: &[u32], row: usize) -> bool {
    let kind = rows[row + word::KIND];
    kind == BLEND || kind == PASTE
}

/// Does this row read its partner at the places of [`resized_from`]?
#[cube]
pub fn resizes(rows: &[u32], row: usize) -> bool {
    rows[row + word::KIND] == RESIZE
}

/// The place that `from..to` shows at `at` of an axis of `size` pixels scaled to it: [`shown`](crate::mixture::bbox::shown).
#[cube]
fn shown(at: u32, from: u32, to: u32, size: u32) -> u32 {
    let side = max(to - from, 1u32);
    let offset = min(max(at, from) - from, side - 1u32);
    quotient(offset * size, side)
}

/// The value of the partner that a resize shows at value `at` of an image; outside the box, where it is not taken, some value all the same.
#[cube]
pub fn resized_from(rows: &[u32], info: &[u32], row: usize, at: usize) -> usize {
    let height = info[size::HEIGHT];
    let width = info[size::WIDTH];
    let line = quotient(at as u32, width);
    let channel = quotient(line, height);
    let y = shown(line - channel * height, rows[row + word::Y0], rows[row + word::Y1], height);
    let x = shown(at as u32 - line * width, rows[row + word::X0], rows[row + word::X1], width);
    ((channel * height + y) * width + x) as usize
}

/// `own` after the row that starts at word `row`; `at` is the index of the values in the image, in vectors.
#[cube]
pub fn apply_row<N: Size>(
    rows: &[u32],
    info: &[u32],
    row: usize,
    own: Vector<f32, N>,
    other: Vector<f32, N>,
    at: usize,
) -> Vector<f32, N> {
    let kind = rows[row + word::KIND];
    let scaled = Vector::new(f32::reinterpret(rows[row + word::OWN_SCALE])) * own;
    let mut mixed = scaled;
    if kind == BLEND {
        let lambda = f32::reinterpret(rows[row + word::LAMBDA]);
        mixed = Vector::new(lambda) * scaled + Vector::new(1.0f32 - lambda) * other;
    } else if kind != COPY {
        // A vector never reaches over the end of a line, so its values share y.
        let first = (at * N::value()) as u32;
        let line = quotient(first, info[size::WIDTH]);
        let y = line - quotient(line, info[size::HEIGHT]) * info[size::HEIGHT];
        let x = first - line * info[size::WIDTH];
        if y >= rows[row + word::Y0] && y < rows[row + word::Y1] {
            let x0 = rows[row + word::X0];
            let x1 = rows[row + word::X1];
            let fill = f32::reinterpret(rows[row + word::FILL_VALUE]);
            #[unroll]
            for lane in 0..N::value() {
                let inside = x + lane as u32 >= x0 && x + (lane as u32) < x1;
                let written = select(kind == FILL, fill, other.extract(lane));
                mixed.insert(lane, select(inside, written, scaled.extract(lane)));
            }
        }
    }
    mixed
}

/// Value `at` of a vector. Each is looked at: an index that is not constant would move the vector out of the registers.
#[cube]
fn component<N: Size>(vector: Vector<f32, N>, at: usize) -> f32 {
    let mut value = vector.extract(0usize);
    #[unroll]
    for lane in 1..N::value() {
        value = select(at == lane, vector.extract(lane), value);
    }
    value
}

#[cube(launch_unchecked)]
fn mix_kernel<F: Float, N: Size>(
    images: &[Vector<F, N>],
    rows: &[u32],
    mixed: &mut [Vector<F, N>],
    info: &[u32],
    #[define(F)] _dtype: ElemType,
) {
    let vectors = info[size::VECTORS] as usize;
    let image = (CUBE_POS_Y + CUBE_POS_Z * CUBE_COUNT_Y) as usize;
    let at = (CUBE_POS_X * CUBE_DIM + UNIT_POS) as usize;
    if image >= info[size::KEEP] as usize || at >= vectors {
        terminate!();
    }
    let mut own = Vector::<f32, N>::cast_from(images[image * vectors + at]);
    for pass in 0..info[size::PASSES] as usize {
        let row = (pass * info[size::IMAGES] as usize + image) * ROW_WORDS;
        let mut other = own;
        if reads_partner(rows, row) {
            other = Vector::<f32, N>::cast_from(images[rows[row + word::PARTNER] as usize * vectors + at]);
        } else if resizes(rows, row) {
            let partner = rows[row + word::PARTNER] as usize * vectors;
            #[unroll]
            for lane in 0..N::value() {
                let from = resized_from(rows, info, row, at * N::value() + lane);
                let stored = Vector::<f32, N>::cast_from(images[partner + from / N::value()]);
                other.insert(lane, component::<N>(stored, from % N::value()));
            }
        }
        own = apply_row::<N>(rows, info, row, own, other, at);
    }
    mixed[image * vectors + at] = Vector::cast_from(own);
}

/// One stage of `[t, c, h, w]` images.
pub fn mix_stage(images: CubeTensor, job: &StageJob) -> CubeTensor {
    let images = into_contiguous(images);
    let [t, c, h, w] = dims(&images);
    let (client, device, dtype) = (images.client.clone(), images.device.clone(), images.dtype);
    let lanes = lanes(w);
    let mixed = output(&client, &device, [job.keep, c, h, w], dtype);
    let (info, groups) = info(job, [t, c, h, w], lanes, 1);
    let (x, y, z) = grid(groups.0, groups.1);
    let rows = rows(job);
    // SAFETY: the kernel ends where `image` or `at` is past its buffers, and partners are below T in a validated plan.
    unsafe {
        mix_kernel::launch_unchecked(
            &client,
            CubeCount::Static(x, y, z),
            CubeDim::new_1d(WORKGROUP as u32),
            lanes,
            BufferArg::from_raw_parts(images.handle, t * c * h * w),
            BufferArg::from_raw_parts(upload(&client, &rows), rows.len()),
            BufferArg::from_raw_parts(mixed.handle.clone(), job.keep * c * h * w),
            BufferArg::from_raw_parts(upload(&client, &info), info.len()),
            dtype_to_storage_type(dtype),
        );
    }
    ran(Op::Mix, KernelPath::Cube);
    mixed
}

#[cfg(test)]
mod tests {
    use super::word;
    use crate::mixture::plan::ROW_LAYOUT;

    #[test]
    fn words_stand_where_the_table_says() {
        let places = [
            ("kind", word::KIND),
            ("partner", word::PARTNER),
            ("lambda", word::LAMBDA),
            ("y0", word::Y0),
            ("x0", word::X0),
            ("y1", word::Y1),
            ("x1", word::X1),
            ("own_scale", word::OWN_SCALE),
            ("fill_value", word::FILL_VALUE),
        ];
        assert_eq!(places.map(|(name, place)| (place, name)), std::array::from_fn(|at| (at, ROW_LAYOUT[at].0)));
    }
}
