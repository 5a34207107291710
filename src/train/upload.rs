//! From a loaded batch to the inputs of a method: upload, normalise, mix.

use super::jobs::StepPlan;
use crate::colour::Normalization;
use crate::data::Batch;
use crate::error::{Error, Result};
use crate::kernel::Ingest;
use crate::kernel::ingest::Uploading;
use crate::kernel::inputs::Target;
use crate::method::{Facts, Inputs, Mixture, Position};
use crate::mixture::MixturePlan;

/// Where images go and how they are mixed there.
#[derive(Debug, Clone)]
pub struct Upload {
    /// Device and kernel paths.
    pub target: Target,
    /// Colour space and normalisation of the bytes.
    pub norm: Normalization,
    /// Height and width of a view.
    pub size: (usize, usize),
    /// The run's seed.
    pub seed: u64,
}

impl Upload {
    /// The images of a step. The own images come first in a batch, then their partners, which end here.
    pub fn inputs(&self, batch: &Batch<StepPlan>) -> Inputs {
        let StepPlan { epoch, step, own, planned } = &batch.payload;
        let clean = MixturePlan { stages: Vec::new(), keep: *own };
        let how = self.ingest(batch.index.len());
        // A view and the mixtures made of it share one upload.
        let sources: Vec<Uploading> = batch.views.iter().map(|bytes| Uploading::of(bytes)).collect();
        let images = |view: usize, plan| self.target.images_of(&sources[view], &how, plan);
        let views = (0..batch.views.len()).map(|view| images(view, planned.plan_of(view).unwrap_or(&clean))).collect();
        let mixed = planned.mixtures.iter().map(|mixture| images(mixture.views[0], &mixture.plan)).collect();
        let mixtures = planned.mixtures.iter().map(|mixture| Mixture {
            view: mixture.views[0],
            lambda: mixture.lambdas.iter().map(|&lambda| lambda as f32).collect(),
            partners: mixture.partners.clone(),
        });
        let position = Position { seed: self.seed, epoch: *epoch, step: *step };
        Inputs {
            views,
            mixed,
            facts: Facts { images: batch.index[..*own].to_vec(), mixtures: mixtures.collect(), position, draws: None },
        }
    }

    /// How the bytes of `images` views become images.
    pub fn ingest(&self, images: usize) -> Ingest {
        Ingest::new([images, self.size.0, self.size.1], self.norm)
    }

    /// Checks that the device can hold a view of `batch` images in one tensor.
    ///
    /// # Errors
    /// It cannot.
    pub fn check(&self, batch: usize) -> Result<()> {
        let (most, (h, w)) = (self.target.most(&self.ingest(batch)), self.size);
        if batch <= most {
            return Ok(());
        }
        let limit = self.target.largest_tensor.unwrap_or(u64::MAX) >> 20;
        Err(Error::input(format!(
            "`data.batch` is {batch}, but the device holds at most {most} images of {h}x{w} in a tensor ({limit} MiB)"
        ))
        .hint(format!("set data.batch to at most {most}, or use a device without that limit (--device cpu, cuda)")))
    }
}
