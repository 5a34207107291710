//! Which path an operation takes on a device, and why.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::KernelPath;
use super::net::simd::Simd;
use super::net::{Convolver, Ways, Winograd};
use super::registry::{OPS, Op, Spec, chosen};
use crate::error::{Error, Result};

/// `kernels`: the implementations of our own operations, by the operation's name: a path, or `auto` for the fastest that runs on the
/// device. A path that cannot run on the device is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KernelsConfig {
    paths: [Option<KernelPath>; OPS.len()],
    /// The algorithm of 3x3 convolutions on the path `flex` of `net`.
    pub winograd: Winograd,
    /// The convolutions of the path `cube` of `net`.
    pub convolution: Convolver,
}

/// The key of [`KernelsConfig::winograd`].
const WINOGRAD: &str = "winograd";
/// The key of [`KernelsConfig::convolution`].
const CONVOLUTION: &str = "convolution";

/// How a config writes that it asks for no path by name.
const AUTO: &str = "auto";

impl KernelsConfig {
    /// The path that is asked for, `None` for the fastest.
    pub fn of(&self, op: Op) -> Option<KernelPath> {
        self.paths[op as usize]
    }

    /// The same config with a path asked for.
    #[must_use]
    pub fn with(mut self, op: Op, path: KernelPath) -> Self {
        self.paths[op as usize] = Some(path);
        self
    }
}

impl Serialize for KernelsConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let paths = chosen().map(|spec| (spec.name, self.of(spec.op).map_or(AUTO, KernelPath::name)));
        serializer.collect_map(paths.chain([(WINOGRAD, self.winograd.name()), (CONVOLUTION, self.convolution.name())]))
    }
}

impl<'de> Deserialize<'de> for KernelsConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut config = Self::default();
        for (key, name) in BTreeMap::<String, String>::deserialize(deserializer)? {
            if key == WINOGRAD {
                config.winograd = Winograd::named(&name).ok_or_else(|| D::Error::custom(format!("unknown algorithm `{name}`")))?;
                continue;
            }
            if key == CONVOLUTION {
                let unknown = || D::Error::custom(format!("unknown convolution `{name}`"));
                config.convolution = Convolver::named(&name).ok_or_else(unknown)?;
                continue;
            }
            let spec = chosen().find(|spec| spec.name == key).ok_or_else(|| D::Error::custom(format!("unknown key `{key}`")))?;
            if name != AUTO {
                let path = KernelPath::named(&name).ok_or_else(|| D::Error::custom(format!("unknown kernel path `{name}`")))?;
                config = config.with(spec.op, path);
            }
        }
        Ok(config)
    }
}

impl JsonSchema for KernelsConfig {
    fn schema_name() -> Cow<'static, str> {
        "KernelsConfig".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut properties: Map<String, Value> = chosen()
            .map(|spec| {
                let mut value = generator.subschema_for::<Wanted>();
                value.insert("description".to_owned(), spec.about.into());
                value.insert("default".to_owned(), AUTO.into());
                (spec.name.to_owned(), value.to_value())
            })
            .collect();
        let mut winograd = generator.subschema_for::<Winograd>();
        winograd.insert("default".to_owned(), Winograd::default().name().into());
        properties.insert(WINOGRAD.to_owned(), winograd.to_value());
        let mut convolution = generator.subschema_for::<Convolver>();
        convolution.insert("default".to_owned(), Convolver::default().name().into());
        properties.insert(CONVOLUTION.to_owned(), convolution.to_value());
        json_schema!({
            "description": "`kernels`: the implementations of our own operations. A path that cannot run on the device is an error.",
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
        })
    }
}

/// The schema of one value of [`KernelsConfig`]: `auto` and the names of the paths.
struct Wanted;

impl JsonSchema for Wanted {
    fn schema_name() -> Cow<'static, str> {
        "Wanted".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let auto = json!({ "type": "string", "const": AUTO, "description": "The fastest path that runs on the device." });
        let paths = KernelPath::json_schema(generator).to_value();
        let named = paths["oneOf"].as_array().expect("every path has a text, hence a form of its own");
        let forms = [&[auto], named.as_slice()].concat();
        json_schema!({ "description": "What a config asks for.", "oneOf": forms })
    }
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

/// The choices of a device, one per operation that chooses, in the order of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Kernels {
    choices: Vec<Choice>,
    winograd: Winograd,
    convolver: Convolver,
}

impl Kernels {
    /// The paths for a device, known by the compiler of its kernels.
    ///
    /// # Errors
    /// A path asked for by name that cannot run there; an algorithm asked for that the path does not read.
    pub fn choose(config: &KernelsConfig, compiler: &str) -> Result<Self> {
        let choices = chosen().map(|spec| choose(spec, config.of(spec.op), compiler)).collect::<Result<_>>()?;
        let kernels = Self { choices, winograd: config.winograd, convolver: config.convolution };
        let path = kernels.path(Op::Net);
        let winograd = (config.winograd != Winograd::default()).then(|| config.winograd.name());
        let convolution = (config.convolution != Convolver::default()).then(|| config.convolution.name());
        let readers = [
            (WINOGRAD, winograd, KernelPath::Flex, "leave it out, or use the path flex of the CPU"),
            (CONVOLUTION, convolution, KernelPath::Cube, "leave it out, or use the path cube of a GPU"),
        ];
        for (key, name, reader, hint) in readers {
            if let Some(name) = name.filter(|_| path != reader) {
                let what = format!("`kernels.{key}` is {name}, but `net` runs on the path {}, which does not read it", path.name());
                return Err(Error::input(what).hint(hint));
            }
        }
        Ok(kernels)
    }

    /// The path of an operation.
    ///
    /// # Panics
    /// [`Op::IngestMix`], which has no choice of its own.
    pub fn path(&self, op: Op) -> KernelPath {
        let choice = self.choices.iter().find(|choice| choice.op == op);
        choice.unwrap_or_else(|| panic!("no path is chosen for `{}`", op.name())).path
    }

    /// All choices.
    pub fn all(&self) -> &[Choice] {
        &self.choices
    }

    /// How the blocks of the nets are computed.
    pub fn ways(&self) -> Ways {
        Ways { path: self.path(Op::Net), winograd: self.winograd, simd: Simd::best(), convolver: self.convolver }
    }
}

/// An object of choices by the operation's name.
impl Serialize for Kernels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.choices.iter().map(|choice| (choice.op.name(), choice)))
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

/// The paths of an operation that run on a device with this compiler, slow and obvious first.
pub fn paths(op: Op, compiler: &str) -> Vec<KernelPath> {
    KernelPath::ALL.into_iter().filter(|&path| runs(op, path, compiler).is_ok()).collect()
}

/// Whether an operation has a path that runs on a device with this compiler, and why not.
fn runs(op: Op, path: KernelPath, compiler: &str) -> Result<(), String> {
    match path {
        _ if op.has(path) => available(path, compiler),
        KernelPath::Wgsl => Err("there is no shader text for it: `cube` compiles to WGSL".to_owned()),
        _ => Err(format!("there is no {} implementation of it", path.name())),
    }
}

fn choose(spec: &Spec, wanted: Option<KernelPath>, compiler: &str) -> Result<Choice> {
    let Some(path) = wanted else { return Ok(fastest(spec, compiler)) };
    runs(spec.op, path, compiler).map_err(|reason| {
        let names: Vec<&str> = paths(spec.op, compiler).into_iter().map(KernelPath::name).collect();
        Error::input(format!("`kernels.{}` is {}, which cannot run here: {reason}", spec.name, path.name()))
            .hint(format!("use auto, or one of {}", names.join(", ")))
    })?;
    Ok(Choice { op: spec.op, path, reason: "asked for by the config".into() })
}

fn fastest(spec: &Spec, compiler: &str) -> Choice {
    let found = spec.paths.iter().find(|(path, _)| available(*path, compiler).is_ok());
    let &(path, why) = found.expect("tensor operations run everywhere");
    let why = why.replace("{compiler}", compiler).replace("{simd}", Simd::best().name());
    Choice { op: spec.op, path, reason: why + " (docs/numbers.md)" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_takes_the_direct_path_of_the_device() {
        let of = |op, compiler: &str| {
            let kernels = Kernels::choose(&KernelsConfig::default(), compiler).unwrap();
            kernels.all().iter().find(|choice| choice.op == op).unwrap().clone()
        };
        assert_eq!(of(Op::Mix, CPU_COMPILER).path, KernelPath::Flex);
        assert_eq!(of(Op::Mix, "wgpu<wgsl>").path, KernelPath::Wgsl);
        assert_eq!(of(Op::Bank, "wgpu<wgsl>").path, KernelPath::Cube);
        for compiler in ["wgpu<spirv>", "wgpu<msl>", "cuda"] {
            let choice = of(Op::Ingest, compiler);
            assert_eq!(choice.path, KernelPath::Cube);
            let reason = format!("CubeCL kernels: the device's compiler is {compiler}, which takes no WGSL text (docs/numbers.md)");
            assert_eq!(choice.reason, reason);
        }
    }

    #[test]
    fn a_path_that_cannot_run_is_refused_and_the_others_are_named() {
        let refused = |op, path, compiler: &str| {
            let error = Kernels::choose(&KernelsConfig::default().with(op, path), compiler).unwrap_err();
            (error.to_string(), error.hints()[0].clone())
        };
        let (error, hint) = refused(Op::Mix, KernelPath::Wgsl, "wgpu<spirv>");
        assert!(error.contains("`kernels.mix` is wgsl") && error.contains("wgpu<spirv>"), "{error}");
        assert!(hint.contains("reference, tensor, cube"), "{hint}");
        assert!(refused(Op::Ingest, KernelPath::Cube, CPU_COMPILER).0.contains("`kernels.ingest` is cube"));
        let (error, hint) = refused(Op::Bank, KernelPath::Wgsl, WGSL_COMPILER);
        assert!(error.contains("`kernels.scores` is wgsl") && error.contains("no shader text"), "{error}");
        assert!(hint.ends_with("reference, tensor, cube"), "{hint}");
        let winograd = |config: KernelsConfig| KernelsConfig { winograd: Winograd::F2, ..config };
        let on_tensor = KernelsConfig::default().with(Op::Net, KernelPath::Tensor);
        for (config, compiler) in [(on_tensor, CPU_COMPILER), (KernelsConfig::default(), "cuda")] {
            let error = Kernels::choose(&winograd(config), compiler).unwrap_err();
            assert!(error.to_string().contains("`kernels.winograd` is f2") && error.hints()[0].contains("flex"), "{error}");
        }
        let own = KernelsConfig { convolution: Convolver::Own, ..KernelsConfig::default() };
        let error = Kernels::choose(&own, CPU_COMPILER).unwrap_err();
        assert!(error.to_string().contains("`kernels.convolution` is own") && error.hints()[0].contains("cube"), "{error}");
        assert_eq!(Kernels::choose(&own, "cuda").unwrap().ways().convolver, Convolver::Own);
        assert_eq!(Kernels::choose(&winograd(KernelsConfig::default()), CPU_COMPILER).unwrap().ways().winograd, Winograd::F2);
        let config = KernelsConfig::default().with(Op::Mix, KernelPath::Reference).with(Op::Ingest, KernelPath::Tensor);
        let forced = Kernels::choose(&config, "cuda").unwrap();
        assert_eq!((forced.path(Op::Mix), forced.path(Op::Ingest)), (KernelPath::Reference, KernelPath::Tensor));
    }

    #[test]
    fn a_config_comes_back_as_it_was_saved() {
        let written = json!({ "mix": "tensor", "ingest": "auto", "scores": "cube", "net": "auto", "update": "auto", "winograd": "f2", "convolution": "own" });
        let config: KernelsConfig = serde_json::from_value(written.clone()).unwrap();
        let mut want = KernelsConfig::default().with(Op::Mix, KernelPath::Tensor).with(Op::Bank, KernelPath::Cube);
        (want.winograd, want.convolution) = (Winograd::F2, Convolver::Own);
        assert_eq!(config, want);
        assert_eq!(serde_json::to_value(config).unwrap(), written);
        assert_eq!(serde_json::from_value::<KernelsConfig>(json!({})).unwrap(), KernelsConfig::default());
        for wrong in
            [json!({ "ingest_mix": "auto" }), json!({ "mix": "wgls" }), json!({ "winograd": "f3" }), json!({ "convolution": "f3" })]
        {
            assert!(serde_json::from_value::<KernelsConfig>(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn choices_are_stored_by_the_name_of_their_operation() {
        let stored = serde_json::to_value(Kernels::choose(&KernelsConfig::default(), CPU_COMPILER).unwrap()).unwrap();
        let keys: Vec<&String> = stored.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["mix", "ingest", "scores", "net", "update"]);
        assert_eq!(stored["scores"]["op"], "scores");
        assert_eq!(stored["scores"]["path"], "flex");
    }
}
