//! What the kernels of one backend share, whatever they compute: memory and threads of the CPU, launches on CubeCL devices, WGSL texts.

pub(super) mod cpu;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub(super) mod cube;
pub mod launches;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub mod wgsl;
