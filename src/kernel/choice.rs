//! Which path an operation takes on a device, and why.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{KernelPath, Op};
use crate::error::{Error, Result};

/// What a config asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// The fastest path that runs on the device.
    #[default]
    Auto,
    /// Plain loops on the host.
    Reference,
    /// Tensor operations of the backend.
    Tensor,
    /// Vectorised loops on the CPU backend's memory.
    Flex,
    /// Hand-written WGSL shaders.
    Wgsl,
    /// CubeCL kernels.
    Cube,
}

/// `kernels`: the implementations of our own operations. A path that cannot run on the device is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KernelsConfig {
    /// Executes mixture plans.
    pub mix: Wanted,
    /// Turns bytes into normalised images.
    pub ingest: Wanted,
    /// Compares features with drawn rows of a memory bank (InsDis, CMC).
    pub scores: Wanted,
}

/// A path with the reason for it; printed once and stored in the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// The operation.
    pub op: Op,
    /// Its path.
    pub path: KernelPath,
    /// Why.
    pub reason: String,
}

/// The choices of a device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Kernels {
    /// Executes mixture plans.
    pub mix: Choice,
    /// Turns bytes into normalised images.
    pub ingest: Choice,
    /// Compares features with drawn rows of a memory bank.
    pub scores: Choice,
}

impl Kernels {
    /// The paths for a device, known by the compiler of its kernels.
    ///
    /// # Errors
    /// A path asked for by name that cannot run there.
    pub fn choose(config: &KernelsConfig, compiler: &str) -> Result<Self> {
        Ok(Self {
            mix: choose(Op::Mix, config.mix, compiler)?,
            ingest: choose(Op::Ingest, config.ingest, compiler)?,
            scores: choose(Op::Scores, config.scores, compiler)?,
        })
    }

    /// All choices.
    pub fn all(&self) -> [&Choice; 3] {
        [&self.mix, &self.ingest, &self.scores]
    }
}

impl Wanted {
    fn path(self) -> Option<KernelPath> {
        match self {
            Self::Auto => None,
            Self::Reference => Some(KernelPath::Reference),
            Self::Tensor => Some(KernelPath::Tensor),
            Self::Flex => Some(KernelPath::Flex),
            Self::Wgsl => Some(KernelPath::Wgsl),
            Self::Cube => Some(KernelPath::Cube),
        }
    }
}

/// The name of the CPU backend's compiler in [`DeviceInfo::compiler`](crate::device::DeviceInfo).
pub const CPU_COMPILER: &str = "flex (rustc)";
/// The compiler of CubeCL that takes WGSL text; the others refuse it, and only when a result is read.
pub const WGSL_COMPILER: &str = "wgpu<wgsl>";

/// Whether a path runs on a device with this compiler, and why not.
pub fn available(path: KernelPath, compiler: &str) -> Result<(), String> {
    let cpu = compiler == CPU_COMPILER;
    match path {
        KernelPath::Reference | KernelPath::Tensor => Ok(()),
        KernelPath::Flex if cpu => Ok(()),
        KernelPath::Flex => Err("it works on the memory of the CPU backend alone".into()),
        KernelPath::Wgsl if compiler == WGSL_COMPILER => Ok(()),
        KernelPath::Wgsl if cpu => Err("the CPU backend runs no shaders".into()),
        KernelPath::Wgsl => Err(format!("the device's compiler is {compiler}, which takes no WGSL text")),
        KernelPath::Cube if cpu => Err("the CPU backend runs no CubeCL kernels".into()),
        KernelPath::Cube => Ok(()),
    }
}

/// The paths that run on a device with this compiler.
pub fn paths(compiler: &str) -> Vec<KernelPath> {
    KernelPath::ALL.into_iter().filter(|&path| available(path, compiler).is_ok()).collect()
}

/// The same for one operation: scores have no shader text of their own.
pub fn paths_of(op: Op, compiler: &str) -> Vec<KernelPath> {
    paths(compiler).into_iter().filter(|&path| has(op, path)).collect()
}

fn has(op: Op, path: KernelPath) -> bool {
    op != Op::Scores || path != KernelPath::Wgsl
}

/// Direct paths before portable ones, as measured (`unmix bench mixture`, docs/numbers.md).
const FASTEST_FIRST: [KernelPath; 4] = [KernelPath::Flex, KernelPath::Wgsl, KernelPath::Cube, KernelPath::Tensor];

fn choose(op: Op, wanted: Wanted, compiler: &str) -> Result<Choice> {
    if let Some(path) = wanted.path() {
        let exists = if has(op, path) { Ok(()) } else { Err("there is no shader text for it: `cube` compiles to WGSL".to_owned()) };
        exists.and_then(|()| available(path, compiler)).map_err(|reason| {
            let names: Vec<&str> = paths_of(op, compiler).into_iter().map(KernelPath::name).collect();
            Error::input(format!("`kernels.{}` is {}, which cannot run here: {reason}", op.name(), path.name()))
                .hint(format!("use auto, or one of {}", names.join(", ")))
        })?;
        return Ok(Choice { op, path, reason: "asked for by the config".into() });
    }
    let runs = |path: &KernelPath| has(op, *path) && available(*path, compiler).is_ok();
    let path = FASTEST_FIRST.into_iter().find(runs).expect("tensor operations run everywhere");
    let mut reason = match path {
        KernelPath::Flex => "direct loops on the CPU backend's memory, the fastest path of this device".to_owned(),
        KernelPath::Wgsl => format!("hand-written shaders: the compiler is {compiler}"),
        KernelPath::Cube if op == Op::Scores => "CubeCL kernels, which read the bank's rows where they lie".to_owned(),
        KernelPath::Cube => "CubeCL kernels: ".to_owned() + &available(KernelPath::Wgsl, compiler).err().unwrap_or_default(),
        KernelPath::Reference | KernelPath::Tensor => "plain tensor operations, which run on every backend".to_owned(),
    };
    reason += " (docs/numbers.md)";
    Ok(Choice { op, path, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_takes_the_direct_path_of_the_device() {
        let of = |compiler: &str| Kernels::choose(&KernelsConfig::default(), compiler).unwrap().mix;
        assert_eq!(of(CPU_COMPILER).path, KernelPath::Flex);
        assert_eq!(of("wgpu<wgsl>").path, KernelPath::Wgsl);
        for compiler in ["wgpu<spirv>", "wgpu<msl>", "cuda"] {
            assert_eq!(of(compiler).path, KernelPath::Cube);
            assert!(of(compiler).reason.contains(compiler), "{}", of(compiler).reason);
        }
    }

    #[test]
    fn a_path_that_cannot_run_is_refused_and_the_others_are_named() {
        let config = KernelsConfig { mix: Wanted::Wgsl, ..Default::default() };
        let error = Kernels::choose(&config, "wgpu<spirv>").unwrap_err();
        assert!(error.to_string().contains("`kernels.mix` is wgsl") && error.to_string().contains("wgpu<spirv>"), "{error}");
        assert!(error.hints()[0].contains("reference, tensor, cube"), "{:?}", error.hints());
        let config = KernelsConfig { ingest: Wanted::Cube, ..Default::default() };
        assert!(Kernels::choose(&config, CPU_COMPILER).unwrap_err().to_string().contains("`kernels.ingest` is cube"));
        let config = KernelsConfig { scores: Wanted::Wgsl, ..Default::default() };
        assert!(Kernels::choose(&config, WGSL_COMPILER).unwrap_err().to_string().contains("no shader text"));
        let config = KernelsConfig { mix: Wanted::Reference, ingest: Wanted::Tensor, ..Default::default() };
        let forced = Kernels::choose(&config, "cuda").unwrap();
        assert_eq!((forced.mix.path, forced.ingest.path), (KernelPath::Reference, KernelPath::Tensor));
    }
}
