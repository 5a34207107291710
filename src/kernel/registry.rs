//! The table of our device operations. An operation is a folder of this module and a row here: its counters, its key in the config, its
//! choice on each device and what is printed about it all come from the row.

use serde::{Deserialize, Serialize};

use super::KernelPath;

/// What the table says about an operation.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// The operation.
    pub op: Op,
    /// The name that is printed and stored, and its key in `kernels` if it has one.
    pub name: &'static str,
    /// What it does: the text of its key in the schema.
    pub about: &'static str,
    /// Whether a device chooses a path for it and the config may ask for another; the rest run where others have chosen the same path.
    pub chosen: bool,
    /// Its implementations, fastest first (`unmix bench`, docs/numbers.md), each with the reason for taking it. `{compiler}` in a reason
    /// stands for the device's compiler, `{simd}` for the processor's instruction set.
    pub paths: &'static [(KernelPath, &'static str)],
}

/// Makes the enum of operations and the table from one list, so that no operation can be without its row.
macro_rules! operations {
    ($(#[doc = $about:literal] $op:ident $name:literal chosen $chosen:literal { $($path:ident: $why:expr,)+ })+) => {
        /// Our device operations. Each has a row in [`OPS`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Op {
            $(#[doc = $about] #[serde(rename = $name)] $op,)+
        }

        /// A row per operation, in the order of [`Op`].
        pub const OPS: [Spec; [$(Op::$op),+].len()] = [$(Spec {
            op: Op::$op,
            name: $name,
            about: $about.trim_ascii(),
            chosen: $chosen,
            paths: &[$((KernelPath::$path, $why)),+],
        }),+];
    };
}

const DIRECT: &str = "direct loops on the CPU backend's memory, the fastest path of this device";
const SHADERS: &str = "hand-written shaders: the compiler is {compiler}";
const TWINS: &str = "CubeCL kernels: the device's compiler is {compiler}, which takes no WGSL text";
const PORTABLE: &str = "plain tensor operations, which run on every backend";
const LOOPS: &str = "plain loops on the host, which read the tensors back";

operations! {
    /// Executes mixture plans.
    Mix "mix" chosen true { Flex: DIRECT, Wgsl: SHADERS, Cube: TWINS, Tensor: PORTABLE, Reference: LOOPS, }
    /// Turns bytes into normalised images.
    Ingest "ingest" chosen true { Flex: DIRECT, Wgsl: SHADERS, Cube: TWINS, Tensor: PORTABLE, Reference: LOOPS, }
    /// Turns bytes into images and mixes them in one pass over memory.
    IngestMix "ingest_mix" chosen false { Flex: DIRECT, Wgsl: SHADERS, Cube: TWINS, }
    /// Compares features with drawn rows of a memory bank (InsDis, CMC).
    Bank "scores" chosen true {
        Flex: DIRECT,
        Cube: "CubeCL kernels, which read the bank's rows where they lie",
        Tensor: PORTABLE,
        Reference: LOOPS,
    }
    /// Computes the blocks of the nets: convolutions, norms, shortcuts and ReLUs.
    Net "net" chosen true {
        Flex: "channels-last {simd} loops on the CPU backend's memory, the fastest path of this device",
        Cube: "CubeCL kernels, channels-last, with norm, shortcut and ReLU in one pass",
        Tensor: PORTABLE,
    }
    /// Rows of unit length, and the softmax loss of the first column.
    Rows "rows" chosen false { Cube: "CubeCL kernels with a backward pass of their own", Tensor: PORTABLE, }
    /// Moves parameters: SGD, the moving average of a key encoder, the norm of the gradient.
    Update "update" chosen true {
        Flex: "one pass over the CPU backend's memory by all threads, the fastest path of this device",
        Cube: "CubeCL kernels, one pass over memory each",
        Tensor: PORTABLE,
    }
}

impl Op {
    /// Its row.
    pub fn spec(self) -> &'static Spec {
        &OPS[self as usize]
    }

    /// The name that is printed and stored.
    pub fn name(self) -> &'static str {
        self.spec().name
    }

    /// Whether it has an implementation of this kind, on whatever device.
    pub fn has(self, path: KernelPath) -> bool {
        self.spec().paths.iter().any(|(own, _)| *own == path)
    }
}

/// The rows of the operations for which a device chooses a path.
pub fn chosen() -> impl Iterator<Item = &'static Spec> {
    OPS.iter().filter(|spec| spec.chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chosen_operation_runs_on_every_device() {
        for spec in chosen() {
            assert!(spec.op.has(KernelPath::Tensor), "{}", spec.name);
        }
    }

    #[test]
    fn rows_stand_in_the_order_of_the_operations_under_names_of_their_own() {
        for (at, spec) in OPS.iter().enumerate() {
            assert_eq!(spec.op as usize, at);
            assert_eq!(spec.op.spec().name, spec.name);
            assert_eq!(serde_json::to_value(spec.op).unwrap(), spec.name);
            assert!(OPS[..at].iter().all(|other| other.name != spec.name), "{} stands twice", spec.name);
            for path in KernelPath::ALL {
                let count = spec.paths.iter().filter(|(own, _)| *own == path).count();
                assert!(count <= 1, "{}: {} stands {count} times", spec.name, path.name());
            }
        }
    }
}
