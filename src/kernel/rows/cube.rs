//! Rows as CubeCL kernels.

use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::*;

use super::LEAST_SQUARE;
use crate::kernel::backend::cube::{buffer, lanes, shaped};

/// Units of a workgroup: few, since rows are few.
const UNITS: u32 = 64;
/// Columns of a part of a row's sum at least, and parts at most: one unit adds them.
const LEAST_COLUMNS: usize = 64;
const MOST_PARTS: usize = 64;
/// Below every logit that counts: with it the exponential of a masked one is 0, and never that of a difference of infinities.
const LOWEST: f32 = -3.4e38;

/// A row of unit length per unit.
#[cube(launch_unchecked)]
fn unit_kernel<N: Size>(x: &[Vector<f32, N>], out: &mut [Vector<f32, N>], rows: u32, vectors: u32) {
    if ABSOLUTE_POS >= rows as usize {
        terminate!();
    }
    let from = ABSOLUTE_POS * vectors as usize;
    let scale = 1.0f32 / f32::sqrt(max(sum_of_products::<N>(x, x, from, vectors), LEAST_SQUARE));
    for at in from..from + vectors as usize {
        out[at] = x[at] * Vector::new(scale);
    }
}

/// The gradient of a row: `(g - y (y . g)) / norm`, and `g / norm` where the norm is the bound, a constant.
#[cube(launch_unchecked)]
fn unit_back_kernel<N: Size>(x: &[Vector<f32, N>], slopes: &[Vector<f32, N>], out: &mut [Vector<f32, N>], rows: u32, vectors: u32) {
    if ABSOLUTE_POS >= rows as usize {
        terminate!();
    }
    let from = ABSOLUTE_POS * vectors as usize;
    let square = sum_of_products::<N>(x, x, from, vectors);
    let scale = 1.0f32 / f32::sqrt(max(square, LEAST_SQUARE));
    let along = select(square < LEAST_SQUARE, 0.0f32, sum_of_products::<N>(x, slopes, from, vectors) * scale * scale);
    for at in from..from + vectors as usize {
        out[at] = (slopes[at] - x[at] * Vector::new(along)) * Vector::new(scale);
    }
}

#[cube]
fn sum_of_products<N: Size>(a: &[Vector<f32, N>], b: &[Vector<f32, N>], from: usize, vectors: u32) -> f32 {
    let mut sums = Vector::<f32, N>::new(0.0f32);
    for at in from..from + vectors as usize {
        sums = fma(a[at], b[at], sums);
    }
    let mut sum = 0.0f32;
    #[unroll]
    for lane in 0..N::value() {
        sum += sums.extract(lane);
    }
    sum
}

/// The largest value of each part of a row, and the sum of exponentials above it: `[rows, parts, 2]`. A part is every `parts`-th column.
#[cube(launch_unchecked)]
fn softmax_parts_kernel(logits: &[f32], sums: &mut [f32], rows: u32, columns: u32, parts: u32) {
    let unit = ABSOLUTE_POS as u32;
    if unit >= rows * parts {
        terminate!();
    }
    let row = unit / parts;
    let first = unit - row * parts;
    let from = row * columns;
    let mut largest = LOWEST.runtime();
    let mut column = first;
    while column < columns {
        largest = max(largest, logits[(from + column) as usize]);
        column += parts;
    }
    let mut sum = 0.0f32;
    column = first;
    while column < columns {
        sum += f32::exp(logits[(from + column) as usize] - largest);
        column += parts;
    }
    sums[(2 * unit) as usize] = largest;
    sums[(2 * unit + 1) as usize] = sum;
}

/// The loss of each row, and the logarithm of its sum of exponentials.
#[cube(launch_unchecked)]
fn softmax_kernel(logits: &[f32], parts: &[f32], loss: &mut [f32], sums: &mut [f32], rows: u32, columns: u32, count: u32) {
    let row = ABSOLUTE_POS as u32;
    if row >= rows {
        terminate!();
    }
    let from = 2 * row * count;
    let mut largest = LOWEST.runtime();
    for part in 0..count {
        largest = max(largest, parts[(from + 2 * part) as usize]);
    }
    let mut sum = 0.0f32;
    for part in 0..count {
        sum += parts[(from + 2 * part + 1) as usize] * f32::exp(parts[(from + 2 * part) as usize] - largest);
    }
    let whole = largest + f32::ln(sum);
    sums[row as usize] = whole;
    loss[row as usize] = whole - logits[(row * columns) as usize];
}

/// The gradient of each logit: its share less one in the first column, times the row's.
#[cube(launch_unchecked)]
fn softmax_back_kernel(logits: &[f32], sums: &[f32], slopes: &[f32], out: &mut [f32], rows: u32, columns: u32) {
    let at = ABSOLUTE_POS as u32;
    if at >= rows * columns {
        terminate!();
    }
    let row = at / columns;
    let share = f32::exp(logits[at as usize] - sums[row as usize]);
    let first = select(row * columns == at, 1.0f32, 0.0f32);
    out[at as usize] = (share - first) * slopes[row as usize];
}

fn sizes(tensor: &CubeTensor) -> [usize; 2] {
    tensor.meta.shape().dims()
}

/// See [`super::unit`].
pub fn unit(x: CubeTensor) -> CubeTensor {
    let x = into_contiguous(x);
    let [n, d] = sizes(&x);
    let out = shaped(&x.client, &x.device, &[n, d], x.dtype);
    let dim = CubeDim::new_1d(UNITS);
    // SAFETY: the kernel ends past the rows, of which both tensors have as many, as long.
    unsafe {
        unit_kernel::launch_unchecked(
            &x.client,
            calculate_cube_count_elemwise(&x.client, n, dim),
            dim,
            lanes(d),
            buffer(&x),
            buffer(&out),
            n as u32,
            (d / lanes(d)) as u32,
        );
    }
    out
}

/// The gradient of [`unit`]'s input.
pub fn unit_backward(x: CubeTensor, slopes: CubeTensor) -> CubeTensor {
    let (x, slopes) = (into_contiguous(x), into_contiguous(slopes));
    let [n, d] = sizes(&x);
    let out = shaped(&x.client, &x.device, &[n, d], x.dtype);
    let dim = CubeDim::new_1d(UNITS);
    // SAFETY: the kernel ends past the rows, of which all tensors have as many, as long.
    unsafe {
        unit_back_kernel::launch_unchecked(
            &x.client,
            calculate_cube_count_elemwise(&x.client, n, dim),
            dim,
            lanes(d),
            buffer(&x),
            buffer(&slopes),
            buffer(&out),
            n as u32,
            (d / lanes(d)) as u32,
        );
    }
    out
}

/// See [`super::softmax_loss`]; the second result is what [`softmax_backward`] needs.
pub fn softmax(logits: CubeTensor) -> (CubeTensor, CubeTensor) {
    let logits = into_contiguous(logits);
    let ([n, c], client, device) = (sizes(&logits), &logits.client, &logits.device);
    let parts = c.div_ceil(LEAST_COLUMNS).min(MOST_PARTS);
    let of_parts = shaped(client, device, &[n, parts, 2], logits.dtype);
    let [loss, sums] = [(); 2].map(|()| shaped(client, device, &[n], logits.dtype));
    let dim = CubeDim::new_1d(UNITS);
    // SAFETY: the kernels end past the parts and past the rows; columns stay in their row.
    unsafe {
        softmax_parts_kernel::launch_unchecked(
            client,
            calculate_cube_count_elemwise(client, n * parts, dim),
            dim,
            buffer(&logits),
            buffer(&of_parts),
            n as u32,
            c as u32,
            parts as u32,
        );
        softmax_kernel::launch_unchecked(
            client,
            calculate_cube_count_elemwise(client, n, dim),
            dim,
            buffer(&logits),
            buffer(&of_parts),
            buffer(&loss),
            buffer(&sums),
            n as u32,
            c as u32,
            parts as u32,
        );
    }
    (loss, sums)
}

/// The gradient of the logits.
pub fn softmax_backward(logits: CubeTensor, sums: CubeTensor, slopes: CubeTensor) -> CubeTensor {
    let (logits, slopes) = (into_contiguous(logits), into_contiguous(slopes));
    let [n, c] = sizes(&logits);
    let out = shaped(&logits.client, &logits.device, &[n, c], logits.dtype);
    let dim = CubeDim::new_1d(UNITS);
    // SAFETY: the kernel ends past the logits; there is a sum and a slope for each row.
    unsafe {
        softmax_back_kernel::launch_unchecked(
            &logits.client,
            calculate_cube_count_elemwise(&logits.client, n * c, dim),
            dim,
            buffer(&logits),
            buffer(&sums),
            buffer(&slopes),
            buffer(&out),
            n as u32,
            c as u32,
        );
    }
    out
}
