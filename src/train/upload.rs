//! From a loaded batch to the inputs of a method: upload, normalise, mix.

use burn::tensor::{Device, Tensor, TensorData};

use super::jobs::StepPlan;
use crate::data::Batch;
use crate::kernel::ingest::{Normalization, ingest};
use crate::kernel::{MixPath, mix};
use crate::method::{Inputs, MixedInput, Position};

/// Where images go and how they are mixed there.
#[derive(Debug, Clone)]
pub struct Upload {
    /// Device, without autodiff.
    pub device: Device,
    /// True where tensors live in host memory.
    pub on_host: bool,
    /// Normalisation of the bytes.
    pub norm: Normalization,
    /// Height and width of a view.
    pub size: (usize, usize),
    /// The kernel that executes plans.
    pub path: MixPath,
    /// The run's seed.
    pub seed: u64,
}

impl Upload {
    /// The images of a step. The own images come first in a batch, then their partners, which end here.
    pub fn inputs(&self, batch: &Batch<StepPlan>) -> Inputs {
        let StepPlan { epoch, step, own, planned } = &batch.payload;
        let views: Vec<Tensor<4>> = batch.views.iter().enumerate().map(|(view, bytes)| self.view(view, bytes, batch)).collect();
        let mixed = planned.unmix.as_ref().map(|unmix| {
            let rows = |values: Vec<f32>| Tensor::from_data(TensorData::new(values, [*own]), &self.device);
            let inverse: Vec<i32> = unmix.inverse.iter().map(|&i| i as i32).collect();
            MixedInput {
                images: mix(views[0].clone(), &unmix.plan, self.path),
                lambda: rows(unmix.lambdas.iter().map(|&l| l as f32).collect()),
                inverse: Tensor::from_data(TensorData::new(inverse, [*own]), &self.device),
            }
        });
        Inputs { views, mixed, position: Position { seed: self.seed, epoch: *epoch, step: *step } }
    }

    /// One view of the own images, mixed.
    fn view(&self, view: usize, bytes: &[u8], batch: &Batch<StepPlan>) -> Tensor<4> {
        let (height, width) = self.size;
        let total = batch.index.len();
        let images = ingest(bytes, [total, 3, height, width], &self.norm, &self.device, self.on_host);
        match batch.payload.planned.plan_of(view) {
            Some(plan) => mix(images, plan, self.path),
            None if batch.payload.own < total => images.slice([0..batch.payload.own, 0..3, 0..height, 0..width]),
            None => images,
        }
    }
}
