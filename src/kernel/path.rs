//! The implementations of a kernel, and what tests watch of them.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::registry::{OPS, Op};

/// A kind of implementation. The table ([`OPS`]) says which an operation has; which of them can run depends on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KernelPath {
    /// Plain loops on the host (reads the images back): what the others are compared with.
    Reference,
    /// Tensor operations of the backend.
    Tensor,
    /// Vectorised loops on all cores, on the tensors of the CPU backend.
    Flex,
    /// Hand-written shaders (`shaders/*.wgsl`), where the device's compiler takes WGSL.
    Wgsl,
    /// CubeCL kernels: CUDA, and every compiler of wgpu.
    Cube,
}

impl KernelPath {
    /// All paths, slow and obvious first.
    pub const ALL: [Self; 5] = [Self::Reference, Self::Tensor, Self::Flex, Self::Wgsl, Self::Cube];

    /// The path of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|path| path.name() == name)
    }

    /// The name that is printed, stored and configured.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Tensor => "tensor",
            Self::Flex => "flex",
            Self::Wgsl => "wgsl",
            Self::Cube => "cube",
        }
    }
}

thread_local! {
    static RUNS: Cell<[[u64; KernelPath::ALL.len()]; OPS.len()]> = const { Cell::new([[0; KernelPath::ALL.len()]; OPS.len()]) };
}
static POISON: AtomicBool = AtomicBool::new(false);

/// How often an implementation has been started by this thread. Counted inside each implementation, so that a test can tell that the
/// path it asked for is the one that ran, whatever other tests do meanwhile.
pub fn runs(op: Op, path: KernelPath) -> u64 {
    RUNS.get()[op as usize][path as usize]
}

/// Counts a start.
pub(super) fn ran(op: Op, path: KernelPath) {
    let mut runs = RUNS.get();
    runs[op as usize][path as usize] += 1;
    RUNS.set(runs);
}

/// Refuses a path that an operation does not have on this device.
///
/// # Panics
/// Always.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub(super) fn absent(op: Op, path: KernelPath) -> ! {
    panic!("`{}` has no path `{}` on this device", op.name(), path.name())
}

/// From now on our kernels get output buffers full of NaN instead of whatever memory holds, so that a value they forget to write
/// is seen. For tests: it costs a pass over the output.
pub fn poison_outputs(on: bool) {
    POISON.store(on, Relaxed);
}

/// Whether outputs are to be poisoned.
pub(super) fn poisoned() -> bool {
    POISON.load(Relaxed)
}
