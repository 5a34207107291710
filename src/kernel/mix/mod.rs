//! The mixture: executes plans, stage by stage.

#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub(super) mod cube;
#[cfg(feature = "flex")]
pub(super) mod flex;
pub mod ops;
pub mod reference;
pub mod split;
pub mod tensor;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub(super) mod wgsl;

use std::sync::Arc;

use burn::backend::Dispatch;
use burn::tensor::{Tensor, TensorData};

use super::path::ran;
use super::{KernelPath, Op};
use crate::mixture::plan::{MixturePlan, Stage};
use ops::MixOps;

/// One stage for a backend to execute. The stage fits the images: whoever makes a job has validated its plan.
#[derive(Debug, Clone)]
pub struct StageJob {
    /// The rows, T per pass.
    pub stage: Arc<Stage>,
    /// The first `keep` images are results, the others end here.
    pub keep: usize,
}

/// Executes a plan.
///
/// # Shapes
/// - `images` `[t, c, h, w]`, outside any graph, f32, f16 or bf16 (`wgsl`: f32 or f16)
/// - output `[n, c, h, w]`, n = `plan.keep`, of the same type
///
/// # Panics
/// A plan that does not fit the images ([`MixturePlan::validate`]), or a path that the device of `images` does not have.
pub fn mix(images: Tensor<4>, plan: &MixturePlan, path: KernelPath) -> Tensor<4> {
    let [t, c, h, w] = images.dims();
    plan.validate(t, h, w).unwrap_or_else(|error| panic!("{error}"));
    let last = plan.stages.len().saturating_sub(1);
    let mixed = plan.stages.iter().enumerate().fold(images, |images, (s, stage)| {
        let keep = if s == last { plan.keep } else { t };
        run_stage(images, StageJob { stage: Arc::new(stage.clone()), keep }, path)
    });
    // Only a plan without a stage comes here with T images.
    if mixed.dims()[0] == plan.keep { mixed } else { mixed.slice([0..plan.keep, 0..c, 0..h, 0..w]) }
}

/// Executes one stage on one path.
pub(super) fn run_stage(images: Tensor<4>, job: StageJob, path: KernelPath) -> Tensor<4> {
    let dims = images.dims();
    let [_, c, h, w] = dims;
    if job.keep * c * h * w == 0 {
        return images.slice([0..job.keep, 0..c, 0..h, 0..w]);
    }
    match path {
        KernelPath::Reference => {
            ran(Op::Mix, path);
            let (device, dtype) = (images.device(), images.dtype());
            let host = images.into_data().convert::<f32>().try_to_vec::<f32>().expect("just converted");
            let mut mixed = reference::mix_stage(&host, dims, &job.stage);
            mixed.truncate(job.keep * c * h * w);
            Tensor::from_data(TensorData::new(mixed, [job.keep, c, h, w]), (&device, dtype))
        }
        KernelPath::Tensor => {
            ran(Op::Mix, path);
            tensor::mix_stage(images, &job.stage, job.keep)
        }
        KernelPath::Flex | KernelPath::Wgsl | KernelPath::Cube => {
            Tensor::from_dispatch(<Dispatch as MixOps>::mix_stage(images.into_dispatch(), job, path))
        }
    }
}

/// A plain copy of a tensor into new memory: what the mixture is measured against.
pub fn copy(images: Tensor<4>) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as MixOps>::copy_images(images.into_dispatch()))
}
