//! From a loaded batch to the inputs of a method: upload, normalise, mix.

use burn::tensor::Tensor;

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
    /// Height and width of each view.
    pub sizes: Vec<(usize, usize)>,
    /// The run's seed.
    pub seed: u64,
}

impl Upload {
    /// The images of a step. The own images come first in a batch, then their partners, which end here.
    pub fn inputs(&self, batch: &Batch<StepPlan>) -> Inputs {
        let StepPlan { epoch, step, own, planned } = &batch.payload;
        let clean = MixturePlan { stages: Vec::new(), keep: *own };
        // A view and the mixtures made of it share one upload.
        let uploading: Vec<Uploading> = batch.views.iter().map(|bytes| Uploading::of(bytes)).collect();
        let images = |sources: &[usize], plan| self.images_of(&uploading, batch.index.len(), sources, plan);
        let views = (0..uploading.len()).map(|view| match planned.plan_of(view) {
            Some(plan) => images(&planned.sources_of(view, uploading.len()), plan),
            None => images(&[view], &clean),
        });
        let views = views.collect();
        let mixed = planned.mixtures.iter().map(|mixture| images(&mixture.sources(), &mixture.plan)).collect();
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

    /// What a plan makes of the images of some views of one size, `images` of each, one view after the other.
    pub(super) fn images_of(&self, views: &[Uploading], images: usize, sources: &[usize], plan: &MixturePlan) -> Tensor<4> {
        let how = self.ingest(sources[0], images * sources.len());
        match *sources {
            [view] => self.target.images_of(&views[view], &how, plan),
            _ => {
                let parts: Vec<&Uploading> = sources.iter().map(|&view| &views[view]).collect();
                self.target.images_of(&Uploading::joined(&parts), &how, plan)
            }
        }
    }

    /// How the bytes of a view of `images` images become images.
    pub fn ingest(&self, view: usize, images: usize) -> Ingest {
        let (height, width) = self.sizes[view];
        Ingest::new([images, height, width], self.norm)
    }

    /// Checks that the device can hold each view of `batch` images in one tensor.
    ///
    /// # Errors
    /// It cannot.
    pub fn check(&self, batch: usize) -> Result<()> {
        let largest = (0..self.sizes.len()).max_by_key(|&view| self.sizes[view].0 * self.sizes[view].1);
        let Some((most, (h, w))) = largest.map(|view| (self.target.most(&self.ingest(view, batch)), self.sizes[view])) else {
            return Ok(());
        };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::colour::ColorSpace;
    use crate::device;

    /// The largest view decides, wherever it stands.
    #[test]
    fn the_largest_view_of_a_batch_has_to_fit_one_tensor() {
        let norm = Normalization { space: ColorSpace::Rgb, mean: [0.0; 3], std: [1.0; 3] };
        // Ten images of 8x8 as f32.
        let target = Target { largest_tensor: Some(10 * 3 * 8 * 8 * 4), ..device::open("cpu").unwrap().target() };
        for (sizes, most, named) in [
            (vec![(4, 4), (8, 8)], 10, "10 images of 8x8"),
            (vec![(8, 8), (4, 4)], 10, "10 images of 8x8"),
            (vec![(4, 4); 2], 40, "40 images of 4x4"),
        ] {
            let upload = Upload { target: target.clone(), norm, sizes, seed: 1 };
            upload.check(most).unwrap();
            let error = upload.check(most + 1).unwrap_err();
            assert!(error.message().contains(named) && error.hints()[0].contains(&format!("at most {most}")), "{error}");
        }
    }
}
