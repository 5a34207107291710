//! Results as files: one JSON object per result in `DIR/eval/`, with everything that it depends on, so that no number travels alone.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::files;
use crate::model::{Frozen, Layers, state};

/// Raised when a reader of an older form could misread a newer one.
const FORMAT: u32 = 1;

/// Which encoder was evaluated.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SubjectInfo {
    /// The folder of its run.
    pub run: Option<String>,
    /// The file of its weights, where they come from no run.
    pub weights: Option<String>,
    /// Method and mixture of its pre-training.
    pub method: Option<String>,
    /// Mixture of its pre-training.
    pub mixture: Option<String>,
    /// The backbone.
    pub model: String,
    /// Completed epochs of pre-training.
    pub epochs: Option<u64>,
    /// Completed steps of pre-training.
    pub step: Option<u64>,
    /// Seed of pre-training.
    pub seed: Option<u64>,
    /// Sixteen digits that stand for its weights.
    pub digest: String,
}

/// Which images were used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DataInfo {
    /// The training split in words.
    pub train: String,
    /// Its size.
    pub train_images: usize,
    /// The test split in words.
    pub test: String,
    /// Its size.
    pub test_images: usize,
    /// Number of classes.
    pub classes: usize,
    /// Whether the encoder was pre-trained on other data; `null` where that is not known.
    pub transfer: Option<bool>,
}

/// A result with its whole protocol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Form of the file.
    pub format: u32,
    /// `knn`, `linear`, `finetune`, `flatness`, `flatness_image`, `weights` or `map`.
    pub kind: String,
    /// Name of the file, without `.json`: the protocol's, the layer, and eight digits that stand for all that the result depends on.
    pub name: String,
    /// The protocol: `tag`, `layer`, every setting, and `views`: size, colour space and normalisation of the images.
    pub protocol: Value,
    /// The encoder.
    pub subject: SubjectInfo,
    /// The images.
    pub data: DataInfo,
    /// Name and version of the program.
    pub program: String,
    /// Commit that the program was built from, `unknown` outside a repository.
    pub commit: String,
    /// Name of the device.
    pub device: String,
    /// When it was made, UTC.
    pub date: String,
    /// Seconds it took.
    pub wall_s: f64,
    /// The numbers; accuracies in percent.
    pub result: Value,
}

/// What is the same for all results of one call.
#[derive(Debug, Clone)]
pub struct Context {
    /// The encoder.
    pub subject: SubjectInfo,
    /// The images.
    pub data: DataInfo,
    /// Size, colour space and normalisation of the images.
    pub views: Value,
    /// The layers of the encoder.
    pub layers: Layers,
    /// Name of the device.
    pub device: String,
}

impl Context {
    /// A record whose name begins with `stem`; the views and the name of the layer join the protocol.
    pub fn record(&self, kind: &str, stem: &str, mut protocol: Value, result: Value, wall_s: f64) -> Record {
        let name = self.name(stem, &protocol);
        protocol["views"] = self.views.clone();
        // Names are for readers: what is hashed has the number alone, as it always had.
        if let Some(layer) = protocol["layer"].as_u64() {
            protocol["layer_name"] = self.layers.name(layer as usize).into();
        }
        Record {
            format: FORMAT,
            kind: kind.to_owned(),
            name,
            protocol,
            subject: self.subject.clone(),
            data: self.data.clone(),
            program: concat!("unmix ", env!("CARGO_PKG_VERSION")).to_owned(),
            commit: commit().to_owned(),
            device: self.device.clone(),
            date: now(),
            wall_s,
            result,
        }
    }

    /// `stem` and eight digits: equal for equal protocols, views, weights and images, wherever the folders lie.
    pub fn name(&self, stem: &str, protocol: &Value) -> String {
        let hash = fnv(self.identity(protocol).to_string().bytes());
        format!("{stem}-{:08x}", (hash >> 32) as u32 ^ hash as u32)
    }

    /// All that a result depends on.
    pub fn identity(&self, protocol: &Value) -> Value {
        serde_json::json!([protocol, self.views, self.subject.digest, self.data])
    }
}

/// FNV-1a, 64 bits.
pub fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// Sixteen digits that stand for an encoder's weights and statistics.
pub fn digest(encoder: &Frozen) -> String {
    let tensors = encoder.parts.iter().flat_map(|(.., net)| state::collect(net));
    // A hash per tensor, so that what is hashed together is short.
    let parts =
        tensors.map(|(name, data)| format!("{name} {:?} {:x}", data.shape().to_vec(), fnv(data.as_bytes().iter().copied())));
    format!("{:016x}", fnv(parts.collect::<String>().bytes()))
}

impl Record {
    /// Writes the record into `folder`, over an earlier one of the same name.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn write(&self, folder: &Path) -> Result<PathBuf> {
        std::fs::create_dir_all(folder).map_err(|error| Error::io("create", folder, &error))?;
        let path = folder.join(format!("{}.json", self.name));
        let text = serde_json::to_vec_pretty(self).map_err(|e| Error::run(format!("cannot write a result: {e}")))?;
        files::write_atomic(&path, &text)?;
        Ok(path)
    }
}

/// The commit that the program was built from.
pub fn commit() -> &'static str {
    option_env!("UNMIX_COMMIT").unwrap_or("unknown")
}

/// `2026-11-25T17:00:00Z`.
fn now() -> String {
    let stamp = crate::time::stamp(SystemTime::now().max(UNIX_EPOCH));
    let [date, time] = [&stamp[..8], &stamp[9..]];
    format!("{}-{}-{}T{}:{}:{}Z", &date[..4], &date[4..6], &date[6..], &time[..2], &time[2..4], &time[4..])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn context(digest: &str, run: &str) -> Context {
        let subject = SubjectInfo { run: Some(run.into()), digest: digest.into(), ..Default::default() };
        Context {
            subject,
            data: DataInfo::default(),
            views: json!({"size": 32}),
            layers: Layers::new([None; 5], 1),
            device: "cpu".into(),
        }
    }

    #[test]
    fn a_name_stands_for_protocol_encoder_and_data_but_not_for_the_folder() {
        let name = |digest, run: &str, k| context(digest, run).name("knn", &json!({ "k": k }));
        assert_eq!(name("1", "a", 200), name("1", "b", 200));
        assert_ne!(name("1", "a", 200), name("2", "a", 200));
        assert_ne!(name("1", "a", 200), name("1", "a", 20));
        let data = Context { data: DataInfo { train_images: 9, ..Default::default() }, ..context("1", "a") };
        let views = Context { views: json!({"size": 64}), ..context("1", "a") };
        for other in [data, views] {
            assert_ne!(name("1", "a", 200), other.name("knn", &json!({ "k": 200 })));
        }
    }

    #[test]
    fn a_record_survives_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let record = context("1", "a").record("knn", "knn-unmix-l7", json!({"tag": "knn-unmix"}), json!({"top1": 50.5}), 1.5);
        assert_eq!(record.protocol["views"]["size"], 32);
        let path = record.write(&dir.path().join("eval")).unwrap();
        assert!(path.file_name().unwrap().to_str().unwrap().starts_with("knn-unmix-l7-"));
        assert_eq!(serde_json::from_slice::<Record>(&std::fs::read(path).unwrap()).unwrap(), record);
        assert!(record.date.len() == 20 && record.date.starts_with("20") && record.date.ends_with('Z'), "{}", record.date);
    }
}
