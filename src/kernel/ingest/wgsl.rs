//! The ingest as WGSL kernels: `shaders/ingest.wgsl`, `shaders/ingest_mix.wgsl`.

use burn_cubecl::tensor::CubeTensor;

use super::{ByteLayout, Ingest};
use crate::kernel::backend::cube::{lanes, output, upload};
use crate::kernel::backend::wgsl::{INGEST, INGEST_MIX, Instance, WORKGROUP, run_for};
use crate::kernel::mix::{StageJob, wgsl as mix};
use crate::kernel::path::ran;
use crate::kernel::{KernelPath, Op};

fn instance(how: &Ingest, lanes: usize) -> Instance {
    Instance { channels_last: how.layout == ByteLayout::Hwc, curve: how.norm.space.curve(), ..Instance::new(lanes, how.dtype) }
}

/// The words of [`Constants`](crate::colour::Constants).
pub fn constants(how: &Ingest) -> Vec<u32> {
    how.norm.constants().words().iter().map(|word| word.to_bits()).collect()
}

/// The numbers of a launch, in the order of `Info` in `shaders/ingest.wgsl`, and its workgroups: of an image, and images.
pub fn info(how: &Ingest, lanes: usize) -> ([u32; 3], (usize, usize)) {
    let [n, h, w] = how.dims;
    let vectors = h * w / lanes;
    let numbers = [n, h * w, vectors].map(|number| u32::try_from(number).expect("sizes of a batch fit 32 bits"));
    (numbers, (vectors.div_ceil(WORKGROUP), n))
}

/// Packed bytes to images. An invocation makes `lanes` pixels with all their channels.
pub fn ingest(words: CubeTensor, how: &Ingest) -> CubeTensor {
    let (client, device) = (words.client.clone(), words.device.clone());
    let lanes = lanes(how.dims[1] * how.dims[2]);
    let images = output(&client, &device, how.shape(), how.dtype);
    let (info, groups) = info(how, lanes);
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
    let run = run_for(c * h * w / lanes);
    let (info, groups) = mix::info(job, how.shape(), lanes, run);
    let instance = Instance { run, ..instance(how, lanes) };
    let buffers = vec![
        words.handle,
        upload(&client, &constants(how)),
        upload(&client, &mix::rows(job)),
        mixed.handle.clone(),
        upload(&client, &info),
    ];
    INGEST_MIX.launch(&client, &instance, groups, buffers);
    ran(Op::IngestMix, KernelPath::Wgsl);
    mixed
}
