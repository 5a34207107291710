//! Scores as CubeCL kernels, for CUDA and every compiler of wgpu: the drawn rows are read where they lie.

use burn::backend::ops::FloatTensorOps;
use burn::tensor::Shape;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::kernel::backend::cube::{grid, lanes, shaped, upload};
use crate::kernel::backend::wgsl::WORKGROUP;
use crate::kernel::path::ran;
use crate::kernel::{KernelPath, Op};

/// Parts into which the rows of a feature are cut for [`pull`]: enough units for a GPU, few enough to add up afterwards.
const PARTS: usize = 64;

/// One score per unit; `info` is b, r, d in vectors.
#[cube(launch_unchecked)]
fn dots_kernel<N: Size>(features: &[Vector<f32, N>], bank: &[Vector<f32, N>], rows: &[u32], out: &mut [f32], info: &[u32]) {
    let (count, vectors) = (info[1] as usize, info[2] as usize);
    let image = (CUBE_POS_Y + CUBE_POS_Z * CUBE_COUNT_Y) as usize;
    let k = (CUBE_POS_X * CUBE_DIM + UNIT_POS) as usize;
    if image >= info[0] as usize || k >= count {
        terminate!();
    }
    let at = image * count + k;
    let first = rows[at] as usize * vectors;
    let mut sum = Vector::<f32, N>::new(0.0f32);
    for c in 0..vectors {
        sum += bank[first + c] * features[image * vectors + c];
    }
    let mut total = 0.0f32;
    #[unroll]
    for lane in 0..N::value() {
        total += sum.extract(lane);
    }
    out[at] = total;
}

/// One vector of one part's sum per unit; `info` is b, r, d in vectors, rows per part.
#[cube(launch_unchecked)]
fn pull_kernel<N: Size>(weights: &[f32], bank: &[Vector<f32, N>], rows: &[u32], out: &mut [Vector<f32, N>], info: &[u32]) {
    let (count, vectors, step) = (info[1] as usize, info[2] as usize, info[3] as usize);
    let image = (CUBE_POS_Y + CUBE_POS_Z * CUBE_COUNT_Y) as usize;
    let unit = (CUBE_POS_X * CUBE_DIM + UNIT_POS) as usize;
    let part = unit / vectors;
    if image >= info[0] as usize || part >= PARTS {
        terminate!();
    }
    let c = unit - part * vectors;
    let from = part * step;
    let mut to = from + step;
    if to > count {
        to = count;
    }
    let mut sum = Vector::<f32, N>::new(0.0f32);
    for k in from..to {
        let at = image * count + k;
        sum += Vector::new(weights[at]) * bank[rows[at] as usize * vectors + c];
    }
    out[(image * PARTS + part) * vectors + c] = sum;
}

fn sizes(tensor: &CubeTensor) -> [usize; 2] {
    tensor.meta.shape().as_slice().try_into().expect("features, banks and rows have two dimensions")
}

fn words(numbers: &[usize]) -> Vec<u32> {
    numbers.iter().map(|&n| u32::try_from(n).expect("sizes of a bank fit 32 bits")).collect()
}

/// See [`super::dots`].
pub fn dots(features: CubeTensor, bank: CubeTensor, rows: CubeTensor) -> CubeTensor {
    let (features, bank, rows) = (into_contiguous(features), into_contiguous(bank), into_contiguous(rows));
    let ([b, d], [n, _], [_, r]) = (sizes(&features), sizes(&bank), sizes(&rows));
    let (client, device, lanes) = (features.client.clone(), features.device.clone(), lanes(d));
    let out = shaped(&client, &device, &[b, r], features.dtype);
    let info = words(&[b, r, d / lanes]);
    let (x, y, z) = grid(r.div_ceil(WORKGROUP), b);
    // SAFETY: the kernel ends where `image` or `k` is past its buffers; whoever draws the rows keeps them below n.
    unsafe {
        dots_kernel::launch_unchecked(
            &client,
            CubeCount::Static(x, y, z),
            CubeDim::new_1d(WORKGROUP as u32),
            lanes,
            BufferArg::from_raw_parts(features.handle, b * d),
            BufferArg::from_raw_parts(bank.handle, n * d),
            BufferArg::from_raw_parts(rows.handle, b * r),
            BufferArg::from_raw_parts(out.handle.clone(), b * r),
            BufferArg::from_raw_parts(upload(&client, &info), info.len()),
        );
    }
    ran(Op::Bank, KernelPath::Cube);
    out
}

/// See [`super::pull`].
///
/// The rows are summed in parts, so that there is work for all units; the parts are added in a fixed order.
pub fn pull(weights: CubeTensor, bank: CubeTensor, rows: CubeTensor) -> CubeTensor {
    let parts = pull_parts(weights, bank, rows);
    let [b, _, d] = parts.meta.shape().dims();
    CubeBackend::float_reshape(CubeBackend::float_sum_dim(parts, 1), Shape::new([b, d]))
}

/// Sums of parts of the rows, `[b, PARTS, d]`.
fn pull_parts(weights: CubeTensor, bank: CubeTensor, rows: CubeTensor) -> CubeTensor {
    let (weights, bank, rows) = (into_contiguous(weights), into_contiguous(bank), into_contiguous(rows));
    let ([b, r], [n, d]) = (sizes(&weights), sizes(&bank));
    let (client, device, lanes) = (weights.client.clone(), weights.device.clone(), lanes(d));
    let out = shaped(&client, &device, &[b, PARTS, d], weights.dtype);
    let info = words(&[b, r, d / lanes, r.div_ceil(PARTS)]);
    let (x, y, z) = grid((PARTS * d / lanes).div_ceil(WORKGROUP), b);
    // SAFETY: the kernel ends where `image` or `part` is past its buffers; whoever draws the rows keeps them below n.
    unsafe {
        pull_kernel::launch_unchecked(
            &client,
            CubeCount::Static(x, y, z),
            CubeDim::new_1d(WORKGROUP as u32),
            lanes,
            BufferArg::from_raw_parts(weights.handle, b * r),
            BufferArg::from_raw_parts(bank.handle, n * d),
            BufferArg::from_raw_parts(rows.handle, b * r),
            BufferArg::from_raw_parts(out.handle.clone(), b * PARTS * d),
            BufferArg::from_raw_parts(upload(&client, &info), info.len()),
        );
    }
    ran(Op::Bank, KernelPath::Cube);
    out
}
