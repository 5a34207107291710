//! The Backend extension: what each backend must bring to take the direct paths.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, backend_extension};

use super::{Ingest, KernelPath, StageJob};

/// Our kernels as operations of a backend. Images are outside any graph: nothing differentiates through them.
///
/// `path` is one that the backend has (`flex` on the CPU; `wgsl` or `cube` on CubeCL devices); another one panics.
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Flex: cfg(feature = "flex"),
)]
pub trait KernelOps: Backend {
    /// One stage of a plan: `images` `[t, c, h, w]` to `[keep, c, h, w]`, all passes folded per value, partners read from `images`.
    fn mix_stage(images: FloatTensor<Self>, job: StageJob, path: KernelPath) -> FloatTensor<Self>;

    /// Bytes, four in an i32, to normalised images `how.dims` of `how.dtype`.
    fn ingest_words(words: IntTensor<Self>, how: Ingest, path: KernelPath) -> FloatTensor<Self>;

    /// [`KernelOps::ingest_words`] and then [`KernelOps::mix_stage`] without the images in between; RGB only.
    fn ingest_mix_words(words: IntTensor<Self>, how: Ingest, job: StageJob, path: KernelPath) -> FloatTensor<Self>;

    /// Dot products of `features` `[b, d]` with rows `rows` `[b, r]` of `bank` `[n, d]`: `[b, r]`.
    fn bank_dots(
        features: FloatTensor<Self>,
        bank: FloatTensor<Self>,
        rows: IntTensor<Self>,
        path: KernelPath,
    ) -> FloatTensor<Self>;

    /// Sums of rows `rows` `[b, r]` of `bank` `[n, d]` with `weights` `[b, r]`: `[b, d]`, on CubeCL devices `[b, parts, d]` to be added up.
    fn bank_pull(weights: FloatTensor<Self>, bank: FloatTensor<Self>, rows: IntTensor<Self>, path: KernelPath)
    -> FloatTensor<Self>;

    /// A plain copy into new memory: what the others are measured against.
    fn copy_images(images: FloatTensor<Self>) -> FloatTensor<Self>;
}

#[cfg(feature = "flex")]
impl KernelOps for burn::backend::Flex {
    fn mix_stage(images: FloatTensor<Self>, job: StageJob, path: KernelPath) -> FloatTensor<Self> {
        only_flex(path);
        super::mix::flex::mix_stage(images, &job)
    }

    fn ingest_words(words: IntTensor<Self>, how: Ingest, path: KernelPath) -> FloatTensor<Self> {
        only_flex(path);
        let words = words.to_contiguous();
        super::mix::flex::FlexTensor::from_data(super::ingest::flex::ingest(&words.bytes()[..how.bytes()], &how))
    }

    fn ingest_mix_words(words: IntTensor<Self>, how: Ingest, job: StageJob, path: KernelPath) -> FloatTensor<Self> {
        only_flex(path);
        let words = words.to_contiguous();
        super::mix::flex::FlexTensor::from_data(super::ingest::flex::ingest_mix(&words.bytes()[..how.bytes()], &how, &job))
    }

    fn bank_dots(
        features: FloatTensor<Self>,
        bank: FloatTensor<Self>,
        rows: IntTensor<Self>,
        path: KernelPath,
    ) -> FloatTensor<Self> {
        only_flex(path);
        super::scores::flex::dots(features, bank, rows)
    }

    fn bank_pull(
        weights: FloatTensor<Self>,
        bank: FloatTensor<Self>,
        rows: IntTensor<Self>,
        path: KernelPath,
    ) -> FloatTensor<Self> {
        only_flex(path);
        super::scores::flex::pull(weights, bank, rows)
    }

    fn copy_images(images: FloatTensor<Self>) -> FloatTensor<Self> {
        super::mix::flex::copy(&images)
    }
}

#[cfg(feature = "flex")]
fn only_flex(path: KernelPath) {
    assert_eq!(path, KernelPath::Flex, "the CPU backend has no other kernels of its own");
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl KernelOps for burn_cubecl::CubeBackend {
    fn mix_stage(images: FloatTensor<Self>, job: StageJob, path: KernelPath) -> FloatTensor<Self> {
        match super::gpu::language(&images.client, path) {
            super::gpu::Language::Wgsl => super::mix::wgsl::mix_stage(images, &job),
            super::gpu::Language::Cube => super::mix::cube::mix_stage(images, &job),
        }
    }

    fn ingest_words(words: IntTensor<Self>, how: Ingest, path: KernelPath) -> FloatTensor<Self> {
        match super::gpu::language(&words.client, path) {
            super::gpu::Language::Wgsl => super::ingest::wgsl::ingest(words, &how),
            super::gpu::Language::Cube => super::ingest::cube::ingest(words, &how),
        }
    }

    fn ingest_mix_words(words: IntTensor<Self>, how: Ingest, job: StageJob, path: KernelPath) -> FloatTensor<Self> {
        match super::gpu::language(&words.client, path) {
            super::gpu::Language::Wgsl => super::ingest::wgsl::ingest_mix(words, &how, &job),
            super::gpu::Language::Cube => super::ingest::cube::ingest_mix(words, &how, &job),
        }
    }

    fn bank_dots(
        features: FloatTensor<Self>,
        bank: FloatTensor<Self>,
        rows: IntTensor<Self>,
        path: KernelPath,
    ) -> FloatTensor<Self> {
        only_cube(path);
        super::scores::cube::dots(features, bank, rows)
    }

    fn bank_pull(
        weights: FloatTensor<Self>,
        bank: FloatTensor<Self>,
        rows: IntTensor<Self>,
        path: KernelPath,
    ) -> FloatTensor<Self> {
        only_cube(path);
        super::scores::cube::pull(weights, bank, rows)
    }

    fn copy_images(images: FloatTensor<Self>) -> FloatTensor<Self> {
        images.copy()
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn only_cube(path: KernelPath) {
    assert_eq!(path, KernelPath::Cube, "scores have no other kernel on CubeCL devices");
}
