//! The ingest as operations of a backend.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, backend_extension};

use super::Ingest;
use crate::kernel::{KernelPath, StageJob};

/// The direct paths of the ingest, alone and with the mixture behind it.
///
/// `path` is one that the backend has (`flex` on the CPU; `wgsl` or `cube` on CubeCL devices); another one panics.
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Flex: cfg(feature = "flex"),
)]
pub trait IngestOps: Backend {
    /// Bytes, four in an i32, to normalised images `how.dims` of `how.dtype`.
    fn ingest_words(words: IntTensor<Self>, how: Ingest, path: KernelPath) -> FloatTensor<Self>;

    /// [`IngestOps::ingest_words`] and then one stage of a plan without the images in between; RGB only.
    fn ingest_mix_words(words: IntTensor<Self>, how: Ingest, job: StageJob, path: KernelPath) -> FloatTensor<Self>;
}

#[cfg(feature = "flex")]
impl IngestOps for burn::backend::Flex {
    fn ingest_words(words: IntTensor<Self>, how: Ingest, path: KernelPath) -> FloatTensor<Self> {
        crate::kernel::backend::cpu::only_flex(path);
        let words = words.to_contiguous();
        FloatTensor::<Self>::from_data(super::flex::ingest(&words.bytes()[..how.bytes()], &how))
    }

    fn ingest_mix_words(words: IntTensor<Self>, how: Ingest, job: StageJob, path: KernelPath) -> FloatTensor<Self> {
        crate::kernel::backend::cpu::only_flex(path);
        let words = words.to_contiguous();
        FloatTensor::<Self>::from_data(super::flex::ingest_mix(&words.bytes()[..how.bytes()], &how, &job))
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl IngestOps for burn_cubecl::CubeBackend {
    fn ingest_words(words: IntTensor<Self>, how: Ingest, path: KernelPath) -> FloatTensor<Self> {
        use crate::kernel::backend::cube::{Language, language};
        match language(&words.client, path) {
            Language::Wgsl => super::wgsl::ingest(words, &how),
            Language::Cube => super::cube::ingest(words, &how),
        }
    }

    fn ingest_mix_words(words: IntTensor<Self>, how: Ingest, job: StageJob, path: KernelPath) -> FloatTensor<Self> {
        use crate::kernel::backend::cube::{Language, language};
        match language(&words.client, path) {
            Language::Wgsl => super::wgsl::ingest_mix(words, &how, &job),
            Language::Cube => super::cube::ingest_mix(words, &how, &job),
        }
    }
}
