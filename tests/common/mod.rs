//! What several test files share: devices, fixtures, and the binary.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod binary;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use unmix::device::{self, Opened};
use unmix::kernel::{KernelPath, Op, runs};

/// The devices to test, from `UNMIX_TEST_DEVICES` (comma-separated names of `--device`), by default the CPU. A device that is named
/// and cannot be opened fails the test: whoever asked for it must not get a pass without it.
pub fn devices() -> Vec<Opened> {
    let names = std::env::var("UNMIX_TEST_DEVICES").unwrap_or_else(|_| "cpu".into());
    let open = |name: &str| {
        let opened = device::open(name).unwrap_or_else(|error| panic!("UNMIX_TEST_DEVICES names `{name}`: {error}"));
        assert_eq!(opened.info.name, name, "another device was opened than the one asked for");
        opened
    };
    names.split(',').map(|name| open(name.trim())).collect()
}

/// Runs `body` and checks that it started `path` of `op`, and no other path of it.
pub fn asserting_path<T>(op: Op, path: KernelPath, body: impl FnOnce() -> T) -> T {
    let count = || KernelPath::ALL.map(|path| (path, runs(op, path)));
    let before = count();
    let result = body();
    for ((which, before), (_, after)) in before.into_iter().zip(count()) {
        let ran = after > before;
        assert_eq!(ran, which == path, "asked for {}: {} {}", path.name(), which.name(), if ran { "ran" } else { "did not run" });
    }
    result
}

/// The paths on which a device mixes and makes images, by its compiler.
pub fn paths(opened: &Opened) -> Vec<KernelPath> {
    unmix::kernel::choice::paths(Op::Mix, &opened.info.compiler)
}

/// The folder of golden numbers: `UNMIX_FIXTURES`, or the one in the repository.
pub fn fixtures() -> PathBuf {
    match std::env::var_os("UNMIX_FIXTURES") {
        Some(dir) => dir.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures"),
    }
}

/// Named f32, i64 and u8 tensors of one file.
#[derive(Default)]
pub struct Tensors {
    pub floats: HashMap<String, (Vec<usize>, Vec<f32>)>,
    pub integers: HashMap<String, (Vec<usize>, Vec<i64>)>,
    pub bytes: HashMap<String, (Vec<usize>, Vec<u8>)>,
}

impl Tensors {
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("fixture `{}` is missing: {e}", path.display()));
        let file = SafeTensors::deserialize(&bytes).unwrap_or_else(|e| panic!("fixture `{}`: {e}", path.display()));
        let mut out = Self::default();
        for (name, view) in file.tensors() {
            let (shape, data) = (view.shape().to_vec(), view.data());
            match view.dtype() {
                Dtype::F32 => {
                    let values = data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
                    out.floats.insert(name, (shape, values));
                }
                Dtype::I64 => {
                    let values = data.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect();
                    out.integers.insert(name, (shape, values));
                }
                Dtype::U8 => {
                    out.bytes.insert(name, (shape, data.to_vec()));
                }
                other => panic!("fixture tensor {name} is {other:?}"),
            }
        }
        out
    }

    pub fn float(&self, name: &str) -> &(Vec<usize>, Vec<f32>) {
        self.floats.get(name).unwrap_or_else(|| panic!("no f32 tensor {name}"))
    }

    pub fn data(&self, name: &str) -> TensorData {
        let (shape, values) = self.float(name).clone();
        TensorData::new(values, shape)
    }

    pub fn integer(&self, name: &str) -> &(Vec<usize>, Vec<i64>) {
        self.integers.get(name).unwrap_or_else(|| panic!("no i64 tensor {name}"))
    }
}

/// One topic: the JSON and its tensors.
pub struct Sheet {
    pub doc: Value,
    pub tensors: Tensors,
    pub dir: PathBuf,
}

impl Sheet {
    pub fn read(stem: &str) -> Self {
        let dir = fixtures();
        let path = dir.join(format!("{stem}.json"));
        let text = std::fs::read(&path).unwrap_or_else(|e| panic!("fixture `{}` is missing: {e}", path.display()));
        let doc: Value = serde_json::from_slice(&text).unwrap_or_else(|e| panic!("fixture `{}`: {e}", path.display()));
        let tensors = Tensors::read(&dir.join(format!("{stem}.safetensors")));
        Self { doc, tensors, dir }
    }

    /// The cases; at least one, or the file says nothing.
    pub fn cases(&self) -> Vec<Case<'_>> {
        let cases = self.doc["cases"].as_array().expect("a list of cases");
        assert!(!cases.is_empty());
        cases.iter().map(|json| Case { json, tensors: &self.tensors }).collect()
    }
}

/// One case with its inputs and what it should give. Counts what was compared, so that nothing is left out unseen.
pub struct Case<'a> {
    pub json: &'a Value,
    pub tensors: &'a Tensors,
}

impl Case<'_> {
    pub fn name(&self) -> &str {
        self.json["name"].as_str().unwrap()
    }

    pub fn kind(&self) -> &str {
        self.json["kind"].as_str().unwrap_or_default()
    }

    pub fn number(&self, key: &str) -> f64 {
        self.json[key].as_f64().unwrap_or_else(|| panic!("{}: no number {key}", self.name()))
    }

    pub fn param(&self, key: &str) -> f64 {
        self.json["params"][key].as_f64().unwrap_or_else(|| panic!("{}: no parameter {key}", self.name()))
    }

    /// A parameter that is switched on; those that a case does not name are off.
    pub fn flag(&self, key: &str) -> bool {
        self.json["params"][key].as_bool().unwrap_or(false)
    }

    /// Whether the case says what `key` should be.
    pub fn expects(&self, key: &str) -> bool {
        ["outputs", "scalars"].iter().any(|field| self.json[field].get(key).is_some())
    }

    /// Whether the case has an input of this key.
    pub fn has_input(&self, key: &str) -> bool {
        self.json["inputs"].get(key).is_some()
    }

    fn input_name(&self, key: &str) -> String {
        self.json["inputs"][key].as_str().unwrap_or_else(|| panic!("{}: no input {key}", self.name())).to_owned()
    }

    pub fn input<const D: usize>(&self, key: &str, device: &Device) -> Tensor<D> {
        Tensor::from_data(self.tensors.data(&self.input_name(key)), device)
    }

    pub fn input_data(&self, key: &str) -> TensorData {
        self.tensors.data(&self.input_name(key))
    }

    pub fn input_integers(&self, key: &str) -> Vec<i64> {
        self.tensors.integer(&self.input_name(key)).1.clone()
    }

    /// All keys of `outputs` and `scalars`.
    pub fn expected(&self) -> Vec<String> {
        let keys = |field: &str| self.json[field].as_object().map(|m| m.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
        [keys("outputs"), keys("scalars")].concat()
    }

    /// Element by element, absolute, with the tolerance of the file.
    pub fn check(&self, key: &str, got: &[f32]) {
        let (want, tol): (Vec<f64>, f64) = if let Some(scalar) = self.json["scalars"].get(key) {
            (vec![scalar["value"].as_f64().unwrap()], scalar["tol"].as_f64().unwrap())
        } else {
            let output = &self.json["outputs"][key];
            let name = output["tensor"].as_str().unwrap_or_else(|| panic!("{}: no output {key}", self.name()));
            (self.tensors.float(name).1.iter().map(|&v| f64::from(v)).collect(), output["tol"].as_f64().unwrap())
        };
        assert_eq!(got.len(), want.len(), "{}: {key}: number of values", self.name());
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            let difference = (f64::from(*got) - want).abs();
            assert!(difference <= tol, "{}: {key}[{i}] is {got}, want {want}, off by {difference:e}, allowed {tol:e}", self.name());
        }
    }

    pub fn check_tensor<const D: usize>(&self, key: &str, got: Tensor<D>) {
        self.check(key, &values(got));
    }
}

/// The values of a tensor, with or without graph.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.inner().into_data().try_to_vec::<f32>().unwrap()
}

/// An index tensor.
pub fn indices(rows: &[i64], device: &Device) -> Tensor<1, Int> {
    Tensor::from_data(TensorData::new(rows.iter().map(|&r| r as i32).collect::<Vec<_>>(), [rows.len()]), device)
}
