//! What the CubeCL devices share: the language a device takes, output memory, the grid.

use burn::tensor::{DType, Shape};
use burn_cubecl::CubeDevice;
use burn_cubecl::tensor::CubeTensor;
use cubecl::calculate_cube_count_elemwise;
use cubecl::client::Client;
use cubecl::prelude::*;
use cubecl::server::Handle;

use crate::kernel::KernelPath;
use crate::kernel::choice::WGSL_COMPILER;
use crate::kernel::path::poisoned;

/// In which language a kernel is handed to the device.
pub enum Language {
    /// Our text, compiled by the driver.
    Wgsl,
    /// CubeCL's, compiled to whatever the device takes.
    Cube,
}

/// The language of a path on this device.
///
/// # Panics
/// A path of other devices, or WGSL where the compiler is another.
pub fn language(client: &Client, path: KernelPath) -> Language {
    let compiler = client.name();
    match path {
        KernelPath::Cube => Language::Cube,
        KernelPath::Wgsl if compiler == WGSL_COMPILER => Language::Wgsl,
        other => panic!("the path `{}` cannot run on a device whose compiler is {compiler}", other.name()),
    }
}

/// The workgroups of a launch: x counts the blocks of an image, y and z its images, because a dimension holds at most `MAX_GROUPS`.
/// Kernels compute `image = y + z * groups.y` and end where that is past their work.
pub fn grid(blocks: usize, images: usize) -> (u32, u32, u32) {
    const MAX_GROUPS: usize = 65_535;
    let layers = images.div_ceil(MAX_GROUPS).max(1);
    assert!(blocks <= MAX_GROUPS, "an image of {blocks} workgroups is more than a launch can have");
    assert!(layers <= MAX_GROUPS, "{images} images are more than a launch can have");
    (blocks as u32, images.div_ceil(layers) as u32, layers as u32)
}

/// Memory for images `dims` of `dtype`, as it comes from the pool.
pub fn output(client: &Client, device: &CubeDevice, dims: [usize; 4], dtype: DType) -> CubeTensor {
    shaped(client, device, &dims, dtype)
}

/// The same for any shape.
pub fn shaped(client: &Client, device: &CubeDevice, dims: &[usize], dtype: DType) -> CubeTensor {
    let bytes = dims.iter().product::<usize>() * dtype.size();
    // All ones are a NaN in every float type.
    let memory: Handle = if poisoned() { client.create_from_slice(&vec![0xFF; bytes]) } else { client.empty(bytes) };
    CubeTensor::new_contiguous(client.clone(), device.clone(), Shape::from(dims.to_vec()), memory, dtype)
}

/// `[n, c, h, w]` of a tensor.
pub fn dims(images: &CubeTensor) -> [usize; 4] {
    images.meta.shape().as_slice().try_into().expect("images have four dimensions")
}

/// How many values an invocation handles: four where lines are whole multiples of that, so that none reaches over the end of a line.
pub fn lanes(width: usize) -> usize {
    if width.is_multiple_of(4) { 4 } else { 1 }
}

/// 32-bit words of rows for a kernel.
pub fn upload(client: &Client, words: &[u32]) -> Handle {
    client.create_from_slice(bytemuck::cast_slice(words))
}

/// A whole tensor as the argument of a kernel of f32 values.
///
/// # Panics
/// Another type, or gaps between the values: the kernel would read something else.
///
/// # Safety
/// Those who launch keep the kernel inside of it.
pub unsafe fn buffer(tensor: &CubeTensor) -> BufferArg {
    assert!(tensor.dtype == DType::F32 && tensor.is_contiguous(), "a kernel of f32 got {:?} {:?}", tensor.dtype, tensor.meta);
    // SAFETY: the caller's.
    unsafe { BufferArg::from_raw_parts(tensor.handle.clone(), tensor.meta.num_elements()) }
}

/// Several flat tensors in a kernel.
pub type Many = Sequence<Box<[f32]>>;

/// Tensors as a kernel's argument.
///
/// # Safety
/// Those who launch keep the kernel inside of them.
pub unsafe fn buffers<'a>(tensors: impl IntoIterator<Item = &'a CubeTensor>) -> SequenceArg<Box<[f32]>> {
    // SAFETY: the caller's.
    tensors.into_iter().map(|tensor| unsafe { buffer(tensor) }).collect()
}

/// A launch over several flat tensors: how many values each has, the first workgroup of each, and all workgroups.
pub struct Launch {
    pub counts: SequenceArg<u32>,
    pub starts: SequenceArg<u32>,
    pub blocks: u32,
}

impl Launch {
    /// Over these tensors, with `block` values for a workgroup.
    pub fn of<'a>(tensors: impl IntoIterator<Item = &'a CubeTensor>, block: u32) -> Self {
        let (mut counts, mut starts, mut blocks) = (SequenceArg::new(), SequenceArg::new(), 0);
        for tensor in tensors {
            let count = u32::try_from(tensor.meta.num_elements()).expect("the values of a parameter fit 32 bits");
            counts.push(count);
            starts.push(blocks);
            blocks += count.div_ceil(block);
        }
        Self { counts, starts, blocks }
    }

    /// Its workgroups, of `units` units each.
    pub fn cubes(&self, client: &Client, units: u32) -> CubeCount {
        calculate_cube_count_elemwise(client, (self.blocks * units) as usize, CubeDim::new_1d(units))
    }
}

/// Whether this workgroup works at the tensor of `count` values whose first workgroup is `first`; a workgroup has `block` values.
#[cube]
pub fn is_here(count: u32, first: u32, #[comptime] block: u32) -> bool {
    let at = CUBE_POS as u32;
    at >= first && (at - first) * block < count
}

/// How many tensors a launch takes, of which each binds `buffers`.
pub fn at_a_time(client: &Client, buffers: usize) -> usize {
    /// Tensors at most: more make the kernel long and save little.
    const MOST: usize = 16;
    /// Bindings that every device has, by WebGPU's limits, less the one that wgpu takes.
    const LEAST: usize = 7;
    let bindings = (client.properties().hardware.max_bindings as usize).max(LEAST);
    ((bindings - 1) / buffers).clamp(1, MOST)
}

#[cfg(test)]
mod tests {
    use super::grid;

    #[test]
    fn a_grid_holds_all_groups_and_little_more() {
        assert_eq!(grid(3, 1), (3, 1, 1));
        assert_eq!(grid(3, 65_535), (3, 65_535, 1));
        for images in [65_536, 100_001, 1 << 20, (1 << 30) + 1] {
            let (x, y, z) = grid(7, images);
            assert!(x == 7 && y <= 65_535 && z <= 65_535);
            let all = y as usize * z as usize;
            assert!(all >= images && all - images < y as usize + z as usize, "{images}: {y} x {z}");
        }
    }
}
