//! Scores on the CPU backend's memory: every drawn row is read where it lies, once, and never copied.

use burn::backend::Flex;
use burn::backend::TensorMetadata;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{Bytes, DType, TensorData};
use rayon::prelude::*;

use crate::augment::simd::widened;
use crate::kernel::path::ran;
use crate::kernel::{KernelPath, Op};

/// Drawn rows that a task scores.
const TASK: usize = 1024;

/// See [`super::dots`].
pub fn dots(features: FloatTensor<Flex>, bank: FloatTensor<Flex>, rows: IntTensor<Flex>) -> FloatTensor<Flex> {
    ran(Op::Scores, KernelPath::Flex);
    let (features, bank, rows) = (features.to_contiguous(), bank.to_contiguous(), rows.to_contiguous());
    let ([b, d], [_, r]) = (dims(&features), dims(&rows));
    let (features, bank, rows) = (floats(&features), floats(&bank), numbers(&rows));
    let mut out = vec![0.0f32; b * r];
    out.par_chunks_mut(r.max(1)).zip(rows.par_chunks(r.max(1))).enumerate().for_each(|(i, (out, rows))| {
        let feature = &features[i * d..][..d];
        out.par_chunks_mut(TASK).zip(rows.par_chunks(TASK)).for_each(|(out, rows)| dot_rows(out, bank, rows, feature));
    });
    tensor(out, [b, r])
}

/// See [`super::pull`].
pub fn pull(weights: FloatTensor<Flex>, bank: FloatTensor<Flex>, rows: IntTensor<Flex>) -> FloatTensor<Flex> {
    ran(Op::Scores, KernelPath::Flex);
    let (weights, bank, rows) = (weights.to_contiguous(), bank.to_contiguous(), rows.to_contiguous());
    let ([b, r], [_, d]) = (dims(&weights), dims(&bank));
    let (weights, bank, rows) = (floats(&weights), floats(&bank), numbers(&rows));
    let mut out = vec![0.0f32; b * d];
    out.par_chunks_mut(d.max(1)).enumerate().for_each(|(i, out)| {
        // In parts that are added in their order: a sum of thousands of terms loses less that way, and repeats its bits.
        let mut part = vec![0.0f32; d];
        for from in (0..r).step_by(TASK) {
            let count = TASK.min(r - from);
            part.fill(0.0);
            add_rows(&mut part, bank, &rows[i * r + from..][..count], &weights[i * r + from..][..count]);
            out.iter_mut().zip(&part).for_each(|(out, part)| *out += part);
        }
    });
    tensor(out, [b, d])
}

fn dims(tensor: &FloatTensor<Flex>) -> [usize; 2] {
    tensor.shape().as_slice().try_into().expect("features, banks and rows have two dimensions")
}

fn floats(tensor: &FloatTensor<Flex>) -> &[f32] {
    tensor.as_slice::<f32>().expect("features and banks are contiguous f32")
}

fn numbers(tensor: &IntTensor<Flex>) -> &[i32] {
    tensor.as_slice::<i32>().expect("rows are contiguous i32")
}

fn tensor(values: Vec<f32>, dims: [usize; 2]) -> FloatTensor<Flex> {
    FloatTensor::<Flex>::from_data(TensorData::from_bytes(Bytes::from_elems(values), dims, DType::F32))
}

/// Rows that are asked for ahead of their use. Drawn rows lie anywhere: without this each waits for memory.
const AHEAD: usize = 6;

#[inline(always)]
fn prefetch(bank: &[f32], row: usize, d: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..d).step_by(16) {
        if let Some(value) = bank.get(row * d + line) {
            // SAFETY: SSE is part of the architecture; a prefetch reads nothing.
            unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(std::ptr::from_ref(value).cast()) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (bank, row, d);
}

/// Partial sums of a dot product: what one vector register, or a few, hold.
const LANES: usize = 32;

widened! {
    /// One dot product per row.
    fn dot_rows(out: &mut [f32], bank: &[f32], rows: &[i32], feature: &[f32]) {
        let d = feature.len();
        for (k, (out, &row)) in out.iter_mut().zip(rows).enumerate() {
            if let Some(&next) = rows.get(k + AHEAD) {
                prefetch(bank, next as usize, d);
            }
            let row = &bank[row as usize * d..][..d];
            let mut sums = [0.0f32; LANES];
            let (whole, rest) = (row.chunks_exact(LANES), row.chunks_exact(LANES).remainder());
            for (row, feature) in whole.zip(feature.chunks_exact(LANES)) {
                for lane in 0..LANES {
                    sums[lane] += row[lane] * feature[lane];
                }
            }
            let tail: f32 = rest.iter().zip(&feature[d - rest.len()..]).map(|(a, b)| a * b).sum();
            let mut width = LANES;
            while width > 1 {
                width /= 2;
                for lane in 0..width {
                    sums[lane] += sums[lane + width];
                }
            }
            *out = sums[0] + tail;
        }
    }
}

widened! {
    /// `sum += weight * row` for each row.
    fn add_rows(sum: &mut [f32], bank: &[f32], rows: &[i32], weights: &[f32]) {
        let d = sum.len();
        for (k, (&row, &weight)) in rows.iter().zip(weights).enumerate() {
            if let Some(&next) = rows.get(k + AHEAD) {
                prefetch(bank, next as usize, d);
            }
            let row = &bank[row as usize * d..][..d];
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * value);
        }
    }
}
