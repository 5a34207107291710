//! The mixture as operations of a backend.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};

use super::StageJob;
use crate::kernel::KernelPath;

/// The direct paths of the mixture. Images are outside any graph: nothing differentiates through them.
///
/// `path` is one that the backend has (`flex` on the CPU; `wgsl` or `cube` on CubeCL devices); another one panics.
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Flex: cfg(feature = "flex"),
)]
pub trait MixOps: Backend {
    /// One stage of a plan: `images` `[t, c, h, w]` to `[keep, c, h, w]`, all passes folded per value, partners read from `images`.
    fn mix_stage(images: FloatTensor<Self>, job: StageJob, path: KernelPath) -> FloatTensor<Self>;

    /// A plain copy into new memory: what the mixture is measured against.
    fn copy_images(images: FloatTensor<Self>) -> FloatTensor<Self>;
}

#[cfg(feature = "flex")]
impl MixOps for burn::backend::Flex {
    fn mix_stage(images: FloatTensor<Self>, job: StageJob, path: KernelPath) -> FloatTensor<Self> {
        crate::kernel::backend::cpu::only_flex(path);
        super::flex::mix_stage(images, &job)
    }

    fn copy_images(images: FloatTensor<Self>) -> FloatTensor<Self> {
        super::flex::copy(&images)
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl MixOps for burn_cubecl::CubeBackend {
    fn mix_stage(images: FloatTensor<Self>, job: StageJob, path: KernelPath) -> FloatTensor<Self> {
        use crate::kernel::backend::cube::{Language, language};
        match language(&images.client, path) {
            Language::Wgsl => super::wgsl::mix_stage(images, &job),
            Language::Cube => super::cube::mix_stage(images, &job),
        }
    }

    fn copy_images(images: FloatTensor<Self>) -> FloatTensor<Self> {
        images.copy()
    }
}
