//! The mixture as a WGSL kernel: `shaders/mix.wgsl`.

use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::StageJob;
use crate::kernel::backend::cube::{dims, lanes, output, upload};
use crate::kernel::backend::wgsl::{Instance, MIX, WORKGROUP, run_for};
use crate::kernel::path::ran;
use crate::kernel::{KernelPath, Op};

/// The numbers of a launch, in the order of `Info` in `shaders/plan_row.wgsl`, and its workgroups: of an image, and images;
/// an invocation makes `run` vectors.
pub fn info(job: &StageJob, [t, c, h, w]: [usize; 4], lanes: usize, run: usize) -> ([u32; 7], (usize, usize)) {
    let vectors = c * h * w / lanes;
    let numbers = [t, job.keep, job.stage.passes.len(), h, w, h * w, vectors];
    (numbers.map(|n| u32::try_from(n).expect("sizes of a batch fit 32 bits")), (vectors.div_ceil(run * WORKGROUP), job.keep))
}

/// The packed rows as unsigned words.
pub fn rows(job: &StageJob) -> Vec<u32> {
    job.stage.pack().into_iter().map(|word| word as u32).collect()
}

/// One stage of `[t, c, h, w]` images.
pub fn mix_stage(images: CubeTensor, job: &StageJob) -> CubeTensor {
    let images = into_contiguous(images);
    let [t, c, h, w] = dims(&images);
    let (client, device) = (images.client.clone(), images.device.clone());
    let lanes = lanes(w);
    let mixed = output(&client, &device, [job.keep, c, h, w], images.dtype);
    let run = run_for(c * h * w / lanes);
    let (info, groups) = info(job, [t, c, h, w], lanes, run);
    let instance = Instance { run, ..Instance::new(lanes, images.dtype) };
    let buffers = vec![images.handle, upload(&client, &rows(job)), mixed.handle.clone(), upload(&client, &info)];
    MIX.launch(&client, &instance, groups, buffers);
    ran(Op::Mix, KernelPath::Wgsl);
    mixed
}
