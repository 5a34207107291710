//! From the loader's bytes to normalised images on the device.

#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub(super) mod cube;
#[cfg(feature = "flex")]
pub(super) mod flex;
pub mod ops;
pub mod reference;
pub mod tensor;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub(super) mod wgsl;

use std::cell::OnceCell;
use std::sync::Arc;

use burn::backend::Dispatch;
use burn::tensor::{Bytes, DType, Device, Int, Tensor, TensorData};

use super::mix::StageJob;
use super::path::ran;
use super::{KernelPath, Op, mix};
use crate::colour::{ColorSpace, Normalization};
use crate::mixture::plan::MixturePlan;
use ops::IngestOps;

/// How the bytes of a batch are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ByteLayout {
    /// `[n, 3, h, w]`, as the loader writes them.
    Chw,
    /// `[n, h, w, 3]`, as decoders give them.
    Hwc,
}

/// What becomes of a batch of bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ingest {
    /// Images, height, width.
    pub dims: [usize; 3],
    /// The order of the bytes; the result is always `[n, 3, h, w]`.
    pub layout: ByteLayout,
    /// Colour space and normalisation.
    pub norm: Normalization,
    /// Type of the result: f32, f16 or bf16.
    pub dtype: DType,
}

impl Ingest {
    /// `[n, 3, h, w]` bytes to f32, the common case.
    pub fn new(dims: [usize; 3], norm: Normalization) -> Self {
        Self { dims, layout: ByteLayout::Chw, norm, dtype: DType::F32 }
    }

    /// Shape of the result, `[n, 3, h, w]`.
    pub fn shape(&self) -> [usize; 4] {
        let [n, h, w] = self.dims;
        [n, 3, h, w]
    }

    /// Bytes of the batch.
    pub fn bytes(&self) -> usize {
        self.shape().iter().product()
    }

    /// Distance in bytes from one pixel to the next, and from one channel to the next.
    pub(super) fn steps(&self) -> (usize, usize) {
        let plane = self.dims[1] * self.dims[2];
        match self.layout {
            ByteLayout::Chw => (1, plane),
            ByteLayout::Hwc => (3, 1),
        }
    }
}

/// Uploads bytes, converts their colours and normalises them.
///
/// # Shapes
/// - `bytes` of `how.dims` images in `how.layout`
/// - output `[n, 3, h, w]` of `how.dtype`
///
/// # Panics
/// Another number of bytes, or a path that the device does not have.
pub fn ingest(bytes: &[u8], how: &Ingest, device: &Device, path: KernelPath) -> Tensor<4> {
    Uploading::of(bytes).ingest(how, device, path)
}

/// Bytes on their way to a device: they are uploaded once, however often images are made of them.
#[derive(Debug)]
pub struct Uploading<'a> {
    from: Origin<'a>,
    words: OnceCell<Tensor<1, Int>>,
}

/// Where bytes are.
#[derive(Debug)]
enum Origin<'a> {
    /// Here.
    Bytes(&'a [u8]),
    /// In others, one after the other; here only where a path reads them on the host.
    Joined(&'a [&'a Uploading<'a>], OnceCell<Vec<u8>>),
}

impl<'a> Uploading<'a> {
    /// Of these bytes, for one device.
    pub fn of(bytes: &'a [u8]) -> Self {
        Self { from: Origin::Bytes(bytes), words: OnceCell::new() }
    }

    /// The bytes of several, one after the other: they are joined where they are, so that each is uploaded once for all that is made of it.
    pub fn joined(parts: &'a [&'a Uploading<'a>]) -> Self {
        Self { from: Origin::Joined(parts, OnceCell::new()), words: OnceCell::new() }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match &self.from {
            Origin::Bytes(bytes) => bytes,
            Origin::Joined(parts, bytes) => bytes.get_or_init(|| parts.iter().flat_map(|part| part.bytes()).copied().collect()),
        }
    }

    /// Number of bytes.
    fn len(&self) -> usize {
        match &self.from {
            Origin::Bytes(bytes) => bytes.len(),
            Origin::Joined(parts, _) => parts.iter().map(|part| part.len()).sum(),
        }
    }

    /// The bytes on the device, in [`words`].
    fn words(&self, device: &Device) -> Tensor<1, Int> {
        let make = || match &self.from {
            // Whole words follow each other as their bytes do.
            Origin::Joined(parts, _) if parts.iter().all(|part| part.len().is_multiple_of(4)) => {
                Tensor::cat(parts.iter().map(|part| part.words(device)).collect(), 0)
            }
            _ => words(self.bytes(), device),
        };
        self.words.get_or_init(make).clone()
    }

    /// See [`ingest()`].
    pub fn ingest(&self, how: &Ingest, device: &Device, path: KernelPath) -> Tensor<4> {
        assert_eq!(self.len(), how.bytes(), "bytes of {:?} images", how.dims);
        if self.len() == 0 {
            return Tensor::zeros(how.shape(), (device, how.dtype));
        }
        match path {
            KernelPath::Reference => {
                ran(Op::Ingest, path);
                Tensor::from_data(TensorData::new(reference::ingest(self.bytes(), how), how.shape()), (device, how.dtype))
            }
            KernelPath::Tensor => {
                ran(Op::Ingest, path);
                tensor::ingest(&self.words(device), how)
            }
            // The CPU backend's tensors are host memory: no copy of the bytes is needed to get there.
            #[cfg(feature = "flex")]
            KernelPath::Flex => on_cpu(device, how.dtype, flex::ingest(self.bytes(), how)),
            #[cfg(not(feature = "flex"))]
            KernelPath::Flex => panic!("this build has no CPU backend"),
            KernelPath::Wgsl | KernelPath::Cube => {
                Tensor::from_dispatch(<Dispatch as IngestOps>::ingest_words(self.words(device).into_dispatch(), *how, path))
            }
        }
    }

    /// See [`ingest_mix`].
    pub fn ingest_mix(&self, how: &Ingest, plan: &MixturePlan, device: &Device, path: KernelPath) -> Tensor<4> {
        let [t, h, w] = how.dims;
        plan.validate(t, h, w).unwrap_or_else(|error| panic!("{error}"));
        let Some((first, rest)) = plan.stages.split_first().filter(|_| fuses(how, path) && plan.keep * h * w > 0) else {
            return mix(self.ingest(how, device, path), plan, path);
        };
        assert_eq!(self.len(), how.bytes(), "bytes of {:?} images", how.dims);
        let job = StageJob { stage: Arc::new(first.clone()), keep: if rest.is_empty() { plan.keep } else { t } };
        let mixed = match path {
            #[cfg(feature = "flex")]
            KernelPath::Flex => on_cpu(device, how.dtype, flex::ingest_mix(self.bytes(), how, &job)),
            _ => {
                let words = self.words(device).into_dispatch();
                Tensor::from_dispatch(<Dispatch as IngestOps>::ingest_mix_words(words, *how, job, path))
            }
        };
        if rest.is_empty() { mixed } else { mix(mixed, &MixturePlan { stages: rest.to_vec(), keep: plan.keep }, path) }
    }
}

/// True where [`ingest_mix`] runs as one kernel: a direct path, and colours that do not mix channels.
pub fn fuses(how: &Ingest, path: KernelPath) -> bool {
    how.norm.space == ColorSpace::Rgb && Op::IngestMix.has(path)
}

/// [`ingest`] and then [`mix`](super::mix()), the first stage in the same pass over memory where [`fuses`] says so: it then
/// reads one byte per value instead of writing and reading the image in between.
///
/// # Shapes
/// - `bytes` of `how.dims` = `[t, h, w]`; output `[plan.keep, 3, h, w]`
///
/// # Panics
/// As [`ingest`] and [`mix`](super::mix()).
pub fn ingest_mix(bytes: &[u8], how: &Ingest, plan: &MixturePlan, device: &Device, path: KernelPath) -> Tensor<4> {
    Uploading::of(bytes).ingest_mix(how, plan, device, path)
}

/// Data of the CPU's kernels as a tensor of the CPU backend, and of no other: elsewhere this would be an upload in disguise.
#[cfg(feature = "flex")]
fn on_cpu(device: &Device, dtype: DType, data: TensorData) -> Tensor<4> {
    let cpu = matches!(device.as_dispatch(), burn::backend::DispatchDevice::Flex(_));
    assert!(cpu, "the flex path runs on the CPU backend, not on {device:?}");
    Tensor::from_data(data, (device, dtype))
}

/// Bytes on the device, four in a 32-bit word (WGSL has no 8-bit type), the first in the lowest bits.
fn words(bytes: &[u8], device: &Device) -> Tensor<1, Int> {
    let count = bytes.len().div_ceil(4);
    let mut packed = Vec::with_capacity(4 * count);
    packed.extend_from_slice(bytes);
    packed.resize(4 * count, 0);
    Tensor::from_data(TensorData::from_bytes(Bytes::from_bytes_vec(packed), [count], DType::I32), (device, DType::I32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_to_the_device_once() {
        let device = crate::device::test_device();
        let bytes = [1u8, 2, 3, 4, 5];
        let uploading = Uploading::of(&bytes);
        assert!(uploading.words.get().is_none(), "nothing is uploaded before it is needed");
        let first = uploading.words(&device);
        assert_eq!(first.clone().into_data().try_to_vec::<i32>().unwrap(), [0x0403_0201, 5]);
        // Whatever is on the device already is what is taken: a second upload would bring the bytes.
        let marked = Uploading { from: Origin::Bytes(&bytes), words: OnceCell::from(first.add_scalar(1)) };
        assert_eq!(marked.words(&device).into_data().try_to_vec::<i32>().unwrap(), [0x0403_0202, 6]);
    }

    #[test]
    fn joined_bytes_are_those_on_the_device() {
        let device = crate::device::test_device();
        let (a, b) = ([1u8, 2, 3, 4], [5u8, 6, 7, 8, 9, 10, 11, 12]);
        let read = |of: &Uploading| of.words(&device).into_data().try_to_vec::<i32>().unwrap();
        let first = Uploading::of(&a);
        // A mark shows that what is there already is taken.
        let second = Uploading { from: Origin::Bytes(&b), words: OnceCell::from(Uploading::of(&b).words(&device).add_scalar(1)) };
        let parts = [&second, &first];
        let both = Uploading::joined(&parts);
        assert_eq!(read(&both), [0x0807_0606, 0x0c0b_0a0a, 0x0403_0201]);
        assert!(matches!(&both.from, Origin::Joined(_, bytes) if bytes.get().is_none()), "nothing was copied on the host");
        assert_eq!(both.bytes(), [5, 6, 7, 8, 9, 10, 11, 12, 1, 2, 3, 4]);
        // Three bytes end inside a word.
        let odd = [1u8, 2, 3];
        let odd = Uploading::of(&odd);
        let parts = [&odd, &first];
        assert_eq!(read(&Uploading::joined(&parts)), [0x0103_0201, 0x0004_0302]);
    }
}
