//! The WGSL kernels: their texts, what is filled in, and how they are started.

use std::hash::{DefaultHasher, Hash, Hasher};

use burn::tensor::DType;
use burn_cubecl::template::{KernelSource, SourceKernel, SourceTemplate};
use cubecl::client::Client;
use cubecl::prelude::*;
use cubecl::server::{Handle, KernelArguments};

use super::cube::grid;
use crate::colour::Curve;

/// Invocations of a workgroup.
pub const WORKGROUP: usize = 256;

/// Most vectors that an invocation of the mixing kernels makes (`mix_run` in `shaders/plan_row.wgsl`): a plan row is read once for all of them.
pub const RUN: usize = 4;

/// How many vectors one invocation handles, for images of `vectors` vectors. More is faster until the last workgroup idles: this is the largest number
/// that wastes less than a sixteenth of the work, or else the one that wastes least.
pub fn run_for(vectors: usize) -> usize {
    let idle = |run: usize| vectors.next_multiple_of(run * WORKGROUP) - vectors;
    let runs = || (1..=RUN).rev();
    runs().find(|&run| 16 * idle(run) < vectors).unwrap_or_else(|| runs().min_by_key(|&run| idle(run)).expect("some run"))
}

/// A kernel's file and the parts that it calls; each part is a file of functions without an entry point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shader {
    /// The file's stem in `shaders/`.
    pub name: &'static str,
    text: &'static str,
    parts: &'static [&'static str],
}

macro_rules! text {
    ($name:literal) => {
        include_str!(concat!("../../../shaders/", $name, ".wgsl"))
    };
}

/// Executes one stage of a mixture plan.
pub const MIX: Shader = Shader { name: "mix", text: text!("mix"), parts: &[text!("plan_row")] };
/// Bytes to normalised images, with their colours converted.
pub const INGEST: Shader = Shader { name: "ingest", text: text!("ingest"), parts: &[text!("bytes")] };
/// Both at once, for RGB.
pub const INGEST_MIX: Shader =
    Shader { name: "ingest_mix", text: text!("ingest_mix"), parts: &[text!("bytes"), text!("plan_row")] };

/// What is filled into a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Instance {
    /// Values per invocation: 1, or 4 where a line's length is a multiple of 4.
    pub lanes: usize,
    /// Half-precision storage.
    pub half: bool,
    /// Bytes are ordered `[n, h, w, 3]`.
    pub channels_last: bool,
    /// Vectors per invocation of the mixing kernels, 1 to [`RUN`].
    pub run: usize,
    /// What the conversion of colours does besides its matrix.
    pub curve: Curve,
}

impl Instance {
    /// An instance for f32 or f16.
    ///
    /// # Panics
    /// Another type: WGSL has no bf16.
    pub fn new(lanes: usize, dtype: DType) -> Self {
        assert!(matches!(dtype, DType::F32 | DType::F16), "the path `wgsl` has f32 and f16, not {dtype:?}");
        Self { lanes, half: dtype == DType::F16, channels_last: false, run: 1, curve: Curve::Affine }
    }
}

impl Shader {
    /// All kernels.
    pub const ALL: [Self; 3] = [MIX, INGEST, INGEST_MIX];

    /// The text that is compiled.
    pub fn complete(&self, instance: &Instance) -> String {
        let scalar = if instance.half { "f16" } else { "f32" };
        let of = |element: &str| if instance.lanes == 4 { format!("vec4<{element}>") } else { element.to_owned() };
        let filled = self.parts.iter().fold(SourceTemplate::new(self.text), |template, part| template.add_template(*part));
        filled
            .register("enable", if instance.half { "enable f16;" } else { "" })
            .register("workgroup_size", WORKGROUP.to_string())
            .register("lanes", instance.lanes.to_string())
            .register("stored", of(scalar))
            .register("value", of("f32"))
            .register("place", of("u32"))
            .register("lane_offsets", if instance.lanes == 4 { "vec4<u32>(0u, 1u, 2u, 3u)" } else { "0u" })
            .register("component", if instance.lanes == 4 { "[at % LANES]" } else { "" })
            .register("gather", if instance.lanes == 4 { "gather_four" } else { "gather_one" })
            .register("read", if instance.lanes == 4 { "read_four" } else { "read_one" })
            .register("channels_last", instance.channels_last.to_string())
            .register("run", instance.run.to_string())
            .register("curve", (instance.curve as u32).to_string())
            .complete()
    }

    /// Starts `blocks` workgroups for each of `images` images on `buffers`, which are bound in their order.
    pub(in crate::kernel) fn launch(
        &self,
        client: &Client,
        instance: &Instance,
        (blocks, images): (usize, usize),
        buffers: Vec<Handle>,
    ) {
        let (x, y, z) = grid(blocks, images);
        let dim = CubeDim::new_1d(WORKGROUP as u32);
        let kernel = Text { shader: *self, text: self.complete(instance), dim };
        let buffers = buffers.into_iter().map(Handle::binding).collect();
        let arguments = KernelArguments::new().with_buffers(buffers);
        client.launch(Box::new(SourceKernel::new(kernel, dim)), CubeCount::Static(x, y, z), arguments);
    }
}

/// A completed text as CubeCL takes it.
struct Text {
    shader: Shader,
    text: String,
    dim: CubeDim,
}

impl KernelSource for Text {
    fn source(&self) -> SourceTemplate {
        SourceTemplate::new(self.text.as_str())
    }

    /// The pipeline cache knows a kernel by this alone, so it carries the whole text in a hash.
    fn id(&self) -> KernelId {
        let mut hasher = DefaultHasher::new();
        self.text.hash(&mut hasher);
        KernelId::new::<Self>().cube_dim(self.dim.into()).info((self.shader.name, hasher.finish()))
    }

    fn lang(&self) -> &'static str {
        "wgsl"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invocations_have_as_many_vectors_as_the_image_fills() {
        // 3x32x32 in fours is three workgroups; 3x224x224 is 147; tiny images take one.
        let run = [3 * 32 * 32 / 4, 3 * 224 * 224 / 4, 1, 4 * WORKGROUP, 5 * WORKGROUP].map(run_for);
        assert_eq!(run, [3, 4, 1, 4, 1]);
    }
}
