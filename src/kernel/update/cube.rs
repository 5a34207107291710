//! Updates as CubeCL kernels: every value is read once and written once. A launch takes as many tensors as the device binds at a time: a net has
//! a hundred, most of them small.

use burn::backend::ops::FloatTensorOps;
use burn::tensor::Shape;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{Own, SgdStep};
use crate::kernel::backend::cube::{Launch, Many, at_a_time, buffers, is_here, shaped};
use crate::kernel::path::ran;
use crate::kernel::{KernelPath, Op};

/// Units of a workgroup.
const UNITS: u32 = 256;
/// Values of a unit, `UNITS` apart.
const ITEMS: u32 = 16;
/// Values of a workgroup.
const BLOCK: u32 = UNITS * ITEMS;

/// One step of SGD, in place. `momenta` are 0 where there is no old velocity; `ahead` is the momentum with which Nesterov's form looks ahead.
#[cube(launch_unchecked)]
fn sgd_kernel(
    weights: &mut Many,
    gradients: &Many,
    velocities: &mut Many,
    counts: &Sequence<u32>,
    starts: &Sequence<u32>,
    momenta: &Sequence<f32>,
    decays: &Sequence<f32>,
    rates: &Sequence<f32>,
    ahead: f32,
    #[comptime] nesterov: bool,
) {
    let tensors = counts.len();
    #[unroll]
    for i in 0..tensors {
        let (count, first) = (*counts.index(i), *starts.index(i));
        if is_here(count, first, BLOCK) {
            let weight = weights.index_mut(i);
            let gradient = gradients.index(i);
            let velocity = velocities.index_mut(i);
            for item in 0..ITEMS {
                let at = place(first, item);
                if at < count {
                    let at = at as usize;
                    let old = weight[at];
                    let decayed = gradient[at] + *decays.index(i) * old;
                    let next = *momenta.index(i) * velocity[at] + decayed;
                    velocity[at] = next;
                    if nesterov {
                        weight[at] = old - *rates.index(i) * (decayed + ahead * next);
                    } else {
                        weight[at] = old - *rates.index(i) * next;
                    }
                }
            }
        }
    }
}

/// `share slow + rest fast`, in place.
#[cube(launch_unchecked)]
fn average_kernel(slow: &mut Many, fast: &Many, counts: &Sequence<u32>, starts: &Sequence<u32>, share: f32, rest: f32) {
    let tensors = counts.len();
    #[unroll]
    for i in 0..tensors {
        let (count, first) = (*counts.index(i), *starts.index(i));
        if is_here(count, first, BLOCK) {
            let own = slow.index_mut(i);
            let other = fast.index(i);
            for item in 0..ITEMS {
                let at = place(first, item);
                if at < count {
                    own[at as usize] = share * own[at as usize] + rest * other[at as usize];
                }
            }
        }
    }
}

/// The sum of the squares of each unit's values, one after the other from `from` on.
#[cube(launch_unchecked)]
fn squares_kernel(values: &Many, parts: &mut [f32], counts: &Sequence<u32>, starts: &Sequence<u32>, from: u32) {
    let mut sum = 0.0f32;
    let tensors = counts.len();
    #[unroll]
    for i in 0..tensors {
        let (count, first) = (*counts.index(i), *starts.index(i));
        if is_here(count, first, BLOCK) {
            let own = values.index(i);
            for item in 0..ITEMS {
                let at = place(first, item);
                if at < count {
                    sum += own[at as usize] * own[at as usize];
                }
            }
        }
    }
    let at = from as usize + ABSOLUTE_POS;
    if at < parts.len() {
        parts[at] = sum;
    }
}

/// The place of a unit's item in its tensor.
#[cube]
fn place(first: u32, item: u32) -> u32 {
    (CUBE_POS as u32 - first) * BLOCK + item * UNITS + UNIT_POS
}

/// A flat tensor that may be changed: itself where nobody else holds it, else a copy.
fn own(tensor: CubeTensor) -> CubeTensor {
    let tensor = into_contiguous(tensor);
    if tensor.can_mut() { tensor } else { tensor.copy() }
}

fn assert_alike(a: &[CubeTensor], b: &[CubeTensor]) {
    let counts = |tensors: &[CubeTensor]| tensors.iter().map(|tensor| tensor.meta.num_elements()).collect::<Vec<_>>();
    assert_eq!(counts(a), counts(b), "an update of tensors of different sizes");
}

/// See [`super::sgd`].
pub fn sgd(
    weights: Vec<CubeTensor>,
    gradients: Vec<CubeTensor>,
    velocities: Vec<CubeTensor>,
    numbers: &[Own],
    step: SgdStep,
) -> (Vec<CubeTensor>, Vec<CubeTensor>) {
    ran(Op::Update, KernelPath::Cube);
    let weights: Vec<_> = weights.into_iter().map(own).collect();
    let velocities: Vec<_> = velocities.into_iter().map(own).collect();
    let gradients: Vec<_> = gradients.into_iter().map(into_contiguous).collect();
    assert_alike(&weights, &gradients);
    assert_alike(&velocities, &gradients);
    let Some(one) = weights.first() else { return (weights, velocities) };
    let (client, most) = (one.client.clone(), at_a_time(&one.client, 3));
    for from in (0..weights.len()).step_by(most) {
        let some = from..(from + most).min(weights.len());
        let launch = Launch::of(&weights[some.clone()], BLOCK);
        let numbers = &numbers[some.clone()];
        // SAFETY: the kernel changes values below each tensor's count alone.
        unsafe {
            sgd_kernel::launch_unchecked(
                &client,
                launch.cubes(&client, UNITS),
                CubeDim::new_1d(UNITS),
                buffers(&weights[some.clone()]),
                buffers(&gradients[some.clone()]),
                buffers(&velocities[some]),
                launch.counts,
                launch.starts,
                numbers.iter().map(|one| if one.first { 0.0 } else { step.momentum as f32 }).collect(),
                numbers.iter().map(|one| one.weight_decay as f32).collect(),
                numbers.iter().map(|one| one.lr as f32).collect(),
                step.momentum as f32,
                step.nesterov,
            );
        }
    }
    (weights, velocities)
}

/// See [`super::average`].
pub fn average(slow: Vec<CubeTensor>, fast: Vec<CubeTensor>, momentum: f64) -> Vec<CubeTensor> {
    ran(Op::Update, KernelPath::Cube);
    let slow: Vec<_> = slow.into_iter().map(own).collect();
    let fast: Vec<_> = fast.into_iter().map(into_contiguous).collect();
    assert_alike(&slow, &fast);
    let Some(one) = slow.first() else { return slow };
    let (client, most) = (one.client.clone(), at_a_time(&one.client, 2));
    for from in (0..slow.len()).step_by(most) {
        let some = from..(from + most).min(slow.len());
        let launch = Launch::of(&slow[some.clone()], BLOCK);
        // SAFETY: the kernel changes values below each tensor's count alone.
        unsafe {
            average_kernel::launch_unchecked(
                &client,
                launch.cubes(&client, UNITS),
                CubeDim::new_1d(UNITS),
                buffers(&slow[some.clone()]),
                buffers(&fast[some]),
                launch.counts,
                launch.starts,
                momentum as f32,
                (1.0 - momentum) as f32,
            );
        }
    }
    slow
}

/// See [`super::square_sum`]. The parts and their order depend on the sizes and on how many tensors a launch takes.
pub fn square_sum(tensors: Vec<CubeTensor>) -> CubeTensor {
    /// Rows in which the parts are added first.
    const ROWS: usize = 64;
    let tensors: Vec<_> = tensors.into_iter().map(into_contiguous).collect();
    let client = tensors[0].client.clone();
    let most = at_a_time(&client, 1);
    let launches: Vec<(&[CubeTensor], Launch)> = tensors.chunks(most).map(|some| (some, Launch::of(some, BLOCK))).collect();
    let units: usize = launches.iter().map(|(_, launch)| (launch.blocks * UNITS) as usize).sum();
    let parts = shaped(&client, &tensors[0].device, &[ROWS, units / ROWS], tensors[0].dtype);
    let mut from = 0;
    for (some, launch) in launches {
        let (cubes, blocks) = (launch.cubes(&client, UNITS), launch.blocks);
        // SAFETY: the kernel reads below each tensor's count, and writes below the number of parts.
        unsafe {
            squares_kernel::launch_unchecked(
                &client,
                cubes,
                CubeDim::new_1d(UNITS),
                buffers(some),
                BufferArg::from_raw_parts(parts.handle.clone(), units),
                launch.counts,
                launch.starts,
                from,
            );
        }
        from += blocks * UNITS;
    }
    let sum = CubeBackend::float_sum_dim(CubeBackend::float_sum_dim(parts, 1), 0);
    CubeBackend::float_reshape(sum, Shape::new([1]))
}
