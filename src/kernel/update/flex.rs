//! Updates on the CPU backend's memory, by all threads: every value is read once and written once.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::TensorData;
use rayon::prelude::*;

use super::{Own, SgdStep};
use crate::kernel::net::flex::{own, values};
use crate::kernel::path::ran;
use crate::kernel::{KernelPath, Op};
use crate::simd::widened;

/// Values of a task. It is part of the sum of squares' definition: its parts are added in their order.
const CHUNK: usize = 1 << 14;

/// See [`super::sgd`].
pub fn sgd(
    weights: Vec<FloatTensor<Flex>>,
    gradients: Vec<FloatTensor<Flex>>,
    velocities: Vec<FloatTensor<Flex>>,
    own: &[Own],
    step: SgdStep,
) -> (Vec<FloatTensor<Flex>>, Vec<FloatTensor<Flex>>) {
    ran(Op::Update, KernelPath::Flex);
    let ahead = step.nesterov.then_some(step.momentum as f32);
    let one = |(((weight, gradient), velocity), own): (((FloatTensor<Flex>, _), _), &Own)| {
        let factors = [own.lr as f32, if own.first { 0.0 } else { step.momentum as f32 }, own.weight_decay as f32];
        sgd_tensor(weight, gradient, velocity, factors, ahead)
    };
    weights.into_iter().zip(gradients).zip(velocities).zip(own).map(one).unzip()
}

/// One parameter; `factors` are rate, momentum and decay, `ahead` is the momentum with which Nesterov's form looks ahead.
fn sgd_tensor(
    weight: FloatTensor<Flex>,
    gradient: FloatTensor<Flex>,
    velocity: FloatTensor<Flex>,
    factors: [f32; 3],
    ahead: Option<f32>,
) -> (FloatTensor<Flex>, FloatTensor<Flex>) {
    let count = gradient.shape().num_elements();
    // The first velocity is the gradient itself, which this must not change.
    let (mut weight, gradient, mut velocity) = (own(weight, [count]), gradient.to_contiguous(), own(velocity, [count]));
    let gradient = values(&gradient);
    let (weights, velocities) = (weight.storage_mut::<f32>(), velocity.storage_mut::<f32>());
    assert!(weights.len() == gradient.len() && weights.len() == velocities.len(), "an update of tensors of different sizes");
    let chunks = weights.par_chunks_mut(CHUNK).zip(velocities.par_chunks_mut(CHUNK)).zip(gradient.par_chunks(CHUNK));
    chunks.for_each(|((weight, velocity), gradient)| sgd_values(weight, velocity, gradient, factors, ahead));
    (weight, velocity)
}

widened! {
    /// One chunk of [`sgd`], as [`sgd_tensor`] says.
    fn sgd_values(weight: &mut [f32], velocity: &mut [f32], gradient: &[f32], factors: [f32; 3], ahead: Option<f32>) {
        let [lr, momentum, decay] = factors;
        let count = gradient.len();
        let (weight, velocity) = (&mut weight[..count], &mut velocity[..count]);
        // Two loops rather than a branch in one: each has a body of its own that is vectorised.
        match ahead {
            None => {
                for i in 0..count {
                    let v = momentum * velocity[i] + (gradient[i] + decay * weight[i]);
                    velocity[i] = v;
                    weight[i] -= lr * v;
                }
            }
            Some(ahead) => {
                for i in 0..count {
                    let h = gradient[i] + decay * weight[i];
                    let v = momentum * velocity[i] + h;
                    velocity[i] = v;
                    weight[i] -= lr * (h + ahead * v);
                }
            }
        }
    }
}

/// See [`super::average`].
pub fn average(slow: Vec<FloatTensor<Flex>>, fast: Vec<FloatTensor<Flex>>, momentum: f64) -> Vec<FloatTensor<Flex>> {
    ran(Op::Update, KernelPath::Flex);
    slow.into_iter().zip(fast).map(|(slow, fast)| average_tensor(slow, &fast, momentum)).collect()
}

fn average_tensor(slow: FloatTensor<Flex>, fast: &FloatTensor<Flex>, momentum: f64) -> FloatTensor<Flex> {
    let (mut slow, fast) = (own(slow, [fast.shape().num_elements()]), fast.to_contiguous());
    let fast = values(&fast);
    let shares = [momentum as f32, (1.0 - momentum) as f32];
    let slows = slow.storage_mut::<f32>();
    assert_eq!(slows.len(), fast.len(), "an average of tensors of different sizes");
    slows.par_chunks_mut(CHUNK).zip(fast.par_chunks(CHUNK)).for_each(|(slow, fast)| average_values(slow, fast, shares));
    slow
}

widened! {
    /// One chunk of [`average`].
    fn average_values(slow: &mut [f32], fast: &[f32], shares: [f32; 2]) {
        slow.iter_mut().zip(fast).for_each(|(slow, fast)| *slow = shares[0] * *slow + shares[1] * fast);
    }
}

/// See [`super::square_sum`].
pub fn square_sum(tensors: &[FloatTensor<Flex>]) -> FloatTensor<Flex> {
    let one = |tensor: &FloatTensor<Flex>| -> f64 {
        let tensor = tensor.to_contiguous();
        let parts: Vec<f32> = values(&tensor).par_chunks(CHUNK).map(squares).collect();
        parts.iter().map(|part| f64::from(*part)).sum()
    };
    let sum = tensors.iter().map(one).sum::<f64>() as f32;
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
