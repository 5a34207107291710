//! What the suites share: golden numbers from files, their cases, and kernel paths that are seen to run.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use super::Tally;
use crate::device::Opened;
use crate::kernel::{KernelPath, Op, poison_outputs, runs};

/// Runs `body` and checks that it started `path` of `op`, and no other path of it.
///
/// # Panics
/// Another path ran, or this one did not.
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
    crate::kernel::choice::paths(Op::Mix, &opened.info.compiler)
}

/// Calls `body` with every path of the device, kernels' outputs poisoned; each path is a case.
pub fn on_all_paths(opened: &Opened, tally: &mut Tally, mut body: impl FnMut(&Opened, KernelPath)) {
    poison_outputs(true);
    for path in paths(opened) {
        tally.case(&format!("path {}", path.name()), || body(opened, path));
    }
}

/// Named f32, i64 and u8 tensors of one file.
#[derive(Default)]
pub struct Tensors {
    /// Shape and values, row-major, by name.
    pub floats: HashMap<String, (Vec<usize>, Vec<f32>)>,
    /// The same of 64-bit integers.
    pub integers: HashMap<String, (Vec<usize>, Vec<i64>)>,
    /// The same of bytes.
    pub bytes: HashMap<String, (Vec<usize>, Vec<u8>)>,
}

impl Tensors {
    /// Reads a safetensors file.
    ///
    /// # Panics
    /// It is missing, damaged, or holds another type.
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

    /// Shape and values of a tensor.
    ///
    /// # Panics
    /// There is none of this name.
    pub fn float(&self, name: &str) -> &(Vec<usize>, Vec<f32>) {
        self.floats.get(name).unwrap_or_else(|| panic!("no f32 tensor {name}"))
    }

    /// The same as data of a tensor.
    ///
    /// # Panics
    /// There is none of this name.
    pub fn data(&self, name: &str) -> TensorData {
        let (shape, values) = self.float(name).clone();
        TensorData::new(values, shape)
    }

    /// Shape and values of an integer tensor.
    ///
    /// # Panics
    /// There is none of this name.
    pub fn integer(&self, name: &str) -> &(Vec<usize>, Vec<i64>) {
        self.integers.get(name).unwrap_or_else(|| panic!("no i64 tensor {name}"))
    }
}

/// One topic: the JSON and its tensors.
pub struct Sheet {
    /// The whole JSON file.
    pub doc: Value,
    /// Its tensors.
    pub tensors: Tensors,
    /// The folder, where other files of the topic lie.
    pub dir: PathBuf,
}

impl Sheet {
    /// Reads `DIR/STEM.json` and `DIR/STEM.safetensors`.
    ///
    /// # Panics
    /// One of them is missing or damaged.
    pub fn read(dir: &Path, stem: &str) -> Self {
        let path = dir.join(format!("{stem}.json"));
        let text = std::fs::read(&path).unwrap_or_else(|e| panic!("fixture `{}` is missing: {e}", path.display()));
        let doc: Value = serde_json::from_slice(&text).unwrap_or_else(|e| panic!("fixture `{}`: {e}", path.display()));
        let tensors = Tensors::read(&dir.join(format!("{stem}.safetensors")));
        Self { doc, tensors, dir: dir.to_owned() }
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
    /// What the file says of it.
    pub json: &'a Value,
    /// The tensors that it names.
    pub tensors: &'a Tensors,
}

impl Case<'_> {
    /// Its name in the file.
    pub fn name(&self) -> &str {
        self.json["name"].as_str().unwrap()
    }

    /// Its kind, empty where the file has none.
    pub fn kind(&self) -> &str {
        self.json["kind"].as_str().unwrap_or_default()
    }

    /// A number of its own.
    pub fn number(&self, key: &str) -> f64 {
        self.json[key].as_f64().unwrap_or_else(|| panic!("{}: no number {key}", self.name()))
    }

    /// A number among its parameters.
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

    /// An input on the device, without a graph.
    pub fn input<const D: usize>(&self, key: &str, device: &Device) -> Tensor<D> {
        Tensor::from_data(self.tensors.data(&self.input_name(key)), device)
    }

    /// An input as data.
    pub fn input_data(&self, key: &str) -> TensorData {
        self.tensors.data(&self.input_name(key))
    }

    /// An input of integers.
    pub fn input_integers(&self, key: &str) -> Vec<i64> {
        self.tensors.integer(&self.input_name(key)).1.clone()
    }

    /// All keys of `outputs` and `scalars`.
    pub fn expected(&self) -> Vec<String> {
        let keys = |field: &str| self.json[field].as_object().map(|m| m.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
        [keys("outputs"), keys("scalars")].concat()
    }

    /// Compares values with what the file expects under `key`: element by element, absolute, with the tolerance of the file.
    ///
    /// # Panics
    /// One is off by more, or the case expects nothing of this name.
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

    /// The same for a tensor, with or without graph.
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
