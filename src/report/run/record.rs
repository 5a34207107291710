//! `eval/*.json`: results, each with its protocol. Read as far as it is understood; nothing in it must be there.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};

/// One evaluation.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its file.
    pub file: PathBuf,
    /// What is in it.
    pub value: Value,
}

/// Reads the records of a folder, by file name. None is there if there is no folder; a damaged one is noted and left out.
///
/// # Errors
/// The folder cannot be listed.
pub fn read_folder(folder: &Path, notices: &mut Vec<String>) -> Result<Vec<Record>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|error| Error::io("list", folder, &error))?,
    };
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "json"));
    files.sort();
    let mut records = Vec::new();
    for file in files {
        let parsed = fs::read(&file).map_err(|error| error.to_string());
        let parsed = parsed.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).map_err(|error| error.to_string()));
        match parsed {
            Ok(value) if value["kind"].is_string() => records.push(Record { file, value }),
            Ok(_) => notices.push(format!("`{}` was skipped: it is no record of an evaluation", file.display())),
            Err(error) => notices.push(format!("`{}` was skipped: {error}", file.display())),
        }
    }
    Ok(records)
}

impl Record {
    /// `knn`, `linear`, `finetune`, `flatness`, `flatness_image`, `weights`, `map`, or what a later version adds.
    pub fn kind(&self) -> &str {
        self.value["kind"].as_str().unwrap_or_default()
    }

    /// Its name, or that of its file.
    pub fn name(&self) -> String {
        let stem = || self.file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        self.value["name"].as_str().map_or_else(stem, str::to_owned)
    }

    /// The protocol's tag, or the kind.
    pub fn tag(&self) -> &str {
        self.value["protocol"]["tag"].as_str().unwrap_or(self.kind())
    }

    /// The layer that was looked at.
    pub fn layer(&self) -> Option<u64> {
        self.value["protocol"]["layer"].as_u64()
    }

    /// The step of pre-training that was evaluated.
    pub fn step(&self) -> Option<u64> {
        self.value["subject"]["step"].as_u64()
    }

    /// A number of it.
    pub fn number(&self, pointer: &str) -> Option<f64> {
        self.value.pointer(pointer)?.as_f64()
    }

    /// Numbers of the result; what is no number becomes NaN.
    pub fn numbers(&self, key: &str) -> Vec<f64> {
        numbers(&self.value["result"][key])
    }

    /// Points of the result.
    pub fn points(&self, key: &str) -> Vec<(f64, f64)> {
        let list = self.value["result"][key].as_array().map_or(&[][..], Vec::as_slice);
        list.iter().map(|point| (number(&point[0]), number(&point[1]))).collect()
    }

    /// Words of the result.
    pub fn words(&self, key: &str) -> Vec<String> {
        let list = self.value["result"][key].as_array().map_or(&[][..], Vec::as_slice);
        list.iter().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).collect()
    }

    /// The main result in percent, if the record has an accuracy: top-1, after the last epoch where there are several.
    pub fn top1(&self) -> Option<f64> {
        ["/result/top1", "/result/top1_last"].into_iter().find_map(|pointer| self.number(pointer))
    }

    /// The protocol in words: tag, layer, the settings that tell protocols of one tag apart, numbers of training and test images.
    pub fn protocol(&self) -> String {
        let mut words = vec![self.tag().to_owned()];
        words.extend(self.layer().map(|layer| format!("layer {layer}")));
        words.extend(self.settings());
        words.join(", ")
    }

    /// The same without the layer: one protocol, whatever part of the net it was applied to.
    pub fn across_layers(&self) -> String {
        let tag = if self.kind() == "knn" { "kNN" } else { self.tag() };
        std::iter::once(tag.to_owned()).chain(self.settings()).collect::<Vec<_>>().join(", ")
    }

    /// The settings that tell protocols of one tag apart, and the data.
    fn settings(&self) -> Vec<String> {
        let mut words = Vec::new();
        if self.kind() == "knn" {
            words.extend(self.number("/protocol/k").or(self.number("/result/k")).map(|k| format!("k {k}")));
            words.extend(self.number("/protocol/temperature").map(|t| format!("T {t}")));
        }
        if self.tag().ends_with("-modified") {
            words.extend(self.number("/protocol/epochs").map(|epochs| format!("{epochs} epochs")));
            words.extend(self.value["protocol"]["recipe"].as_str().map(str::to_owned));
            words.push(format!("settings {:04x}", self.settings_hash()));
        }
        words.extend(self.number("/protocol/fraction").map(|share| format!("{} % of the labels", (share * 1e4).round() / 1e2)));
        let list = self.value["protocol"]["labels_file"].as_str().map(Path::new).and_then(Path::file_name);
        words.extend(list.map(|file| format!("labels of {}", file.to_string_lossy())));
        if self.value["data"]["transfer"] == true {
            words.extend(self.value["data"]["test"].as_str().map(|data| format!("on {data}")));
        }
        if let (Some(train), Some(test)) = (self.number("/data/train_images"), self.number("/data/test_images")) {
            words.push(format!("{train} + {test} images"));
        }
        words
    }

    /// Four digits that stand for all settings of the protocol but layer and seed.
    fn settings_hash(&self) -> u16 {
        let mut protocol = self.value["protocol"].clone();
        if let Some(table) = protocol.as_object_mut() {
            ["layer", "layer_name", "seed", "views"].iter().for_each(|key| drop(table.shift_remove(*key)));
        }
        let hash = protocol.to_string().bytes().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
        (hash >> 16) as u16 ^ hash as u16
    }

    /// The protocol as part of a file's name.
    pub fn slug(&self) -> String {
        let tag = self.tag();
        let layer = self.layer().map_or_else(String::new, |layer| format!("-l{layer}"));
        let data = &self.value["data"];
        let data = if data["transfer"] == true { data["test"].as_str() } else { None };
        super::super::plot::figure::slug(&format!("{tag}{layer} {}", data.unwrap_or_default()))
    }
}

/// The numbers of a list; what is no number becomes NaN, and what is no list has none.
pub fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().map_or(&[][..], Vec::as_slice).iter().map(number).collect()
}

/// A number that can be drawn; NaN for all else.
fn number(value: &Value) -> f64 {
    value.as_f64().filter(|number| number.abs() < super::metrics::DRAWABLE).unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(value: Value) -> Record {
        Record { file: "eval/a.json".into(), value }
    }

    #[test]
    fn nothing_must_be_there() {
        let empty = record(json!({ "kind": "knn" }));
        assert_eq!((empty.name(), empty.tag(), empty.layer(), empty.top1()), ("a".into(), "knn", None, None));
        assert!(empty.points("pca").is_empty() && empty.numbers("per_class").is_empty() && empty.words("classes").is_empty());
        let odd = record(json!({ "kind": "map", "result": { "pca": [[1, null], 3, [2, "x"]], "tsne": null } }));
        assert!(odd.points("pca").len() == 3 && odd.points("pca")[0].1.is_nan() && odd.points("tsne").is_empty());
    }

    #[test]
    fn a_protocol_is_what_makes_results_comparable() {
        let full = record(json!({ "kind": "knn", "protocol": { "tag": "knn-unmix", "layer": 7, "k": 200, "temperature": 0.1 },
            "data": { "test": "stl 10", "transfer": true } }));
        assert_eq!(full.protocol(), "knn-unmix, layer 7, k 200, T 0.1, on stl 10");
        assert_eq!(full.across_layers(), "kNN, k 200, T 0.1, on stl 10");
        assert_eq!(full.slug(), "knn-unmix-l7-stl-10");
        let changed = record(json!({ "kind": "linear", "protocol": { "tag": "linear-moco-modified", "layer": 6, "epochs": 40,
            "recipe": "center" } }));
        let words = changed.protocol();
        assert!(words.starts_with("linear-moco-modified, layer 6, 40 epochs, center, settings "), "{words}");
        let of = |key: &str, value: Value| {
            let mut other = changed.value.clone();
            other["protocol"][key] = value;
            record(other).across_layers()
        };
        assert_eq!(of("layer", json!(2)), changed.across_layers());
        assert_ne!(of("batch", json!(32)), changed.across_layers(), "another setting is another protocol");
        let listed =
            record(json!({ "kind": "finetune", "protocol": { "tag": "finetune-swav", "labels_file": "lists/1percent.txt" } }));
        assert_eq!(listed.protocol(), "finetune-swav, labels of 1percent.txt");
        let counted = record(json!({ "kind": "knn", "data": { "train_images": 50, "test_images": 10 } }));
        assert_eq!(counted.protocol(), "knn, 50 + 10 images");
        let huge = record(json!({ "kind": "map", "result": { "pca": [[1e308, 2.0]], "mean_sorted": [1e200, 1.0] } }));
        assert!(huge.points("pca")[0].0.is_nan() && huge.numbers("mean_sorted")[0].is_nan());
    }
}
