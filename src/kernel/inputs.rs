//! From bytes to mixed images on a device, whatever their number: the way of every batch.

use burn::tensor::{Device, Tensor};

use super::ingest::{Uploading, fuses};
use super::mix::split::mix_parts;
use super::{Ingest, KernelPath, ingest, mix};
use crate::mixture::plan::MixturePlan;

/// A device with the paths that our operations take there.
#[derive(Debug, Clone)]
pub struct Target {
    /// The device, without autodiff.
    pub device: Device,
    /// The kernel that executes plans.
    pub mix: KernelPath,
    /// The kernel that turns bytes into images.
    pub ingest: KernelPath,
    /// The largest tensor of the device in bytes, if it has a limit.
    pub largest_tensor: Option<u64>,
}

impl Target {
    /// Images from bytes, mixed by `plan`. One kernel does both where both have the same direct path; a batch that one tensor of the device
    /// cannot hold goes in parts.
    ///
    /// # Shapes
    /// - `bytes` of `how.dims` = `[t, h, w]`; output `[plan.keep, 3, h, w]`, which one tensor must be able to hold
    pub fn images(&self, bytes: &[u8], how: &Ingest, plan: &MixturePlan) -> Tensor<4> {
        self.images_of(&Uploading::of(bytes), how, plan)
    }

    /// The same of bytes of which several images are made.
    pub fn images_of(&self, bytes: &Uploading, how: &Ingest, plan: &MixturePlan) -> Tensor<4> {
        let most = self.most(how);
        if how.dims[0] > most {
            return self.in_parts(bytes.bytes(), how, plan, most);
        }
        if self.mix == self.ingest && fuses(how, self.mix) {
            return bytes.ingest_mix(how, plan, &self.device, self.mix);
        }
        mix(bytes.ingest(how, &self.device, self.ingest), plan, self.mix)
    }

    /// Images of this form that one tensor can hold, at least one.
    pub fn most(&self, how: &Ingest) -> usize {
        let image = (how.bytes() / how.dims[0].max(1) * how.dtype.size()).max(1) as u64;
        self.largest_tensor.map_or(usize::MAX, |bytes| (bytes / image).max(1) as usize)
    }

    fn in_parts(&self, bytes: &[u8], how: &Ingest, plan: &MixturePlan, most: usize) -> Tensor<4> {
        let [_, h, w] = how.dims;
        let parts = bytes.chunks(most * 3 * h * w).map(|part| {
            let part_of = Ingest { dims: [part.len() / (3 * h * w), h, w], ..*how };
            ingest(part, &part_of, &self.device, self.ingest)
        });
        Tensor::cat(mix_parts(parts.collect(), plan, self.mix, most), 0)
    }
}
