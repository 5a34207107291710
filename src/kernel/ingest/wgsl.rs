//! The ingest as WGSL kernels: `shaders/ingest.wgsl`, `shaders/ingest_mix.wgsl`.

use burn_cubecl::tensor::CubeTensor;

use super::{ByteLayout, Ingest};
use crate::kernel::colour::ColorSpace;
use crate::kernel::gpu::{lanes, output, upload};
use crate::kernel::mix::{StageJob, wgsl as mix};
use crate::kernel::path::ran;
use crate::kernel::shader::{INGEST, INGEST_MIX, Instance, RUN, WORKGROUP};
use crate::kernel::{KernelPath, Op};

fn instance(how: &Ingest, lanes: usize) -> Instance {
    Instance {
        channels_last: how.layout == ByteLayout::Hwc,
        curve: u32::from(how.norm.space == ColorSpace::Lab),
        ..Instance::new(lanes, how.dtype)
    }
}

fn constants(how: &Ingest) -> Vec<u32> {
    how.norm.constants().words().iter().map(|word| word.to_bits()).collect()
}

/// Packed bytes to images. An invocation makes `lanes` pixels with all their channels.
pub fn ingest(words: CubeTensor, how: &Ingest) -> CubeTensor {
    let (client, device) = (words.client.clone(), words.device.clone());
    let [n, _, h, w] = how.shape();
    let lanes = lanes(h * w);
    let images = output(&client, &device, how.shape(), how.dtype);
    let vectors = h * w / lanes;
    let groups = (vectors.div_ceil(WORKGROUP), n);
    let info = [n, h * w, vectors].map(|number| u32::try_from(number).expect("sizes of a batch fit 32 bits"));
    let buffers = vec![words.handle, upload(&client, &constants(how)), images.handle.clone(), upload(&client, &info)];
    INGEST.launch(&client, &instance(how, lanes), groups, buffers);
    ran(Op::Ingest, KernelPath::Wgsl);
    images
}

/// Packed bytes to mixed images, RGB only.
pub fn ingest_mix(words: CubeTensor, how: &Ingest, job: &StageJob) -> CubeTensor {
    let (client, device) = (words.client.clone(), words.device.clone());
    let [_, c, h, w] = how.shape();
    let lanes = lanes(w);
    let mixed = output(&client, &device, [job.keep, c, h, w], how.dtype);
    let (info, groups) = mix::info(job, how.shape(), lanes, RUN);
    let buffers = vec![
        words.handle,
        upload(&client, &constants(how)),
        upload(&client, &mix::rows(job)),
        mixed.handle.clone(),
        upload(&client, &info),
    ];
    INGEST_MIX.launch(&client, &instance(how, lanes), groups, buffers);
    ran(Op::IngestMix, KernelPath::Wgsl);
    mixed
}
