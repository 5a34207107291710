//! Updates on the CPU backend's memory, by all threads: every value is read once and written once.

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, TensorData};
use rayon::prelude::*;

use super::SgdStep;
use crate::kernel::net::flex::buffer::Buffer;
use crate::kernel::path::ran;
use crate::kernel::{KernelPath, Op};
use crate::simd::widened;

/// Values of a task. It is part of the sum of squares' definition: its parts are added in their order.
const CHUNK: usize = 1 << 14;

fn values(tensor: &FloatTensor<Flex>) -> &[f32] {
    tensor.as_slice::<f32>().expect("parameters are contiguous f32")
}

fn flat(buffer: Buffer) -> FloatTensor<Flex> {
    let len = buffer.len();
    FloatTensor::<Flex>::from_data(TensorData::from_bytes(buffer.into_bytes(), [len], DType::F32))
}

/// See [`super::sgd`].
pub fn sgd(
    weight: &FloatTensor<Flex>,
    gradient: &FloatTensor<Flex>,
    velocity: &FloatTensor<Flex>,
    step: SgdStep,
    first: bool,
) -> (FloatTensor<Flex>, FloatTensor<Flex>) {
    ran(Op::Update, KernelPath::Flex);
    let (weight, gradient, velocity) = (weight.to_contiguous(), gradient.to_contiguous(), velocity.to_contiguous());
    let (weight, gradient, velocity) = (values(&weight), values(&gradient), values(&velocity));
    assert!(weight.len() == gradient.len() && weight.len() == velocity.len(), "an update of tensors of different sizes");
    let (mut next, mut moved) = (Buffer::new(weight.len()), Buffer::new(weight.len()));
    let factors = [step.lr as f32, if first { 0.0 } else { step.momentum as f32 }, step.weight_decay as f32];
    next.par_chunks_mut(CHUNK).zip(moved.par_chunks_mut(CHUNK)).enumerate().for_each(|(at, (next, moved))| {
        let of = at * CHUNK..at * CHUNK + next.len();
        sgd_values(next, moved, &weight[of.clone()], &gradient[of.clone()], &velocity[of], factors);
    });
    (flat(next), flat(moved))
}

widened! {
    /// One chunk of [`sgd`]; `factors` are rate, momentum and decay.
    fn sgd_values(next: &mut [f32], moved: &mut [f32], weight: &[f32], gradient: &[f32], velocity: &[f32], factors: [f32; 3]) {
        let [lr, momentum, decay] = factors;
        let count = next.len();
        let (moved, weight, gradient, velocity) = (&mut moved[..count], &weight[..count], &gradient[..count], &velocity[..count]);
        for i in 0..count {
            let v = momentum * velocity[i] + (gradient[i] + decay * weight[i]);
            moved[i] = v;
            next[i] = weight[i] - lr * v;
        }
    }
}

/// See [`super::average`].
pub fn average(slow: &FloatTensor<Flex>, fast: &FloatTensor<Flex>, momentum: f64) -> FloatTensor<Flex> {
    ran(Op::Update, KernelPath::Flex);
    let (slow, fast) = (slow.to_contiguous(), fast.to_contiguous());
    let (slow, fast) = (values(&slow), values(&fast));
    assert_eq!(slow.len(), fast.len(), "an average of tensors of different sizes");
    let mut next = Buffer::new(slow.len());
    let shares = [momentum as f32, (1.0 - momentum) as f32];
    next.par_chunks_mut(CHUNK).enumerate().for_each(|(at, next)| {
        let of = at * CHUNK..at * CHUNK + next.len();
        average_values(next, &slow[of.clone()], &fast[of], shares);
    });
    flat(next)
}

widened! {
    /// One chunk of [`average`].
    fn average_values(next: &mut [f32], slow: &[f32], fast: &[f32], shares: [f32; 2]) {
        next.iter_mut().zip(slow.iter().zip(fast)).for_each(|(next, (slow, fast))| *next = shares[0] * slow + shares[1] * fast);
    }
}

/// See [`super::square_sum`].
pub fn square_sum(tensor: &FloatTensor<Flex>) -> FloatTensor<Flex> {
    let tensor = tensor.to_contiguous();
    let parts: Vec<f32> = values(&tensor).par_chunks(CHUNK).map(squares).collect();
    let sum = parts.iter().map(|part| f64::from(*part)).sum::<f64>() as f32;
    FloatTensor::<Flex>::from_data(TensorData::new(vec![sum], [1]))
}

/// Sums that run beside each other.
const LANES: usize = 32;

widened! {
    /// The sum of the squares of a chunk.
    fn squares(chunk: &[f32]) -> f32 {
        let mut sums = [0.0f32; LANES];
        let (whole, rest) = (chunk.chunks_exact(LANES), chunk.chunks_exact(LANES).remainder());
        for values in whole {
            for lane in 0..LANES {
                sums[lane] += values[lane] * values[lane];
            }
        }
        sums.iter().sum::<f32>() + rest.iter().map(|value| value * value).sum::<f32>()
    }
}
