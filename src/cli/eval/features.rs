//! `unmix eval features`.

use std::path::PathBuf;
use std::process::ExitCode;

use burn::tensor::TensorData;
use clap::Args;
use serde_json::json;

use super::subject::SubjectArgs;
use crate::cli;
use crate::error::Result;
use crate::eval::features::{Speed, extract};
use crate::model::tensors::write_tensors;
use crate::model::{LayerName, StateDict};

/// `unmix eval features`.
#[derive(Debug, Args)]
pub struct WriteFeatures {
    #[command(flatten)]
    subject: SubjectArgs,
    /// The layer: features, embedding, or a number from 1 (-1 is the last).
    #[arg(long, default_value_t = LayerName::FEATURES, allow_negative_numbers = true)]
    layer: LayerName,
    /// The safetensors file to write: `train.features`, `train.labels`, `test.features`, `test.labels`, all f32, rows in the order of the
    /// data, not normalised. A label of -1 stands for none.
    #[arg(long, value_name = "FILE")]
    features: PathBuf,
}

impl WriteFeatures {
    /// Runs the subcommand.
    pub fn run(&self) -> Result<ExitCode> {
        self.subject.refuse_out("name the file to write with --features FILE")?;
        let subject = self.subject.open(&[])?;
        let layers = subject.encoder.layers();
        let layer = self.layer.resolve(&layers, "layer")?;
        subject.check_head(&[layer], "layer")?;
        let (mut tensors, mut shapes) = (StateDict::new(), json!({"layer": layer, "layer_name": layers.name(layer)}));
        for (split, source) in [("train", &subject.train), ("test", &subject.test)] {
            let mut found = extract(&subject.encoder, source.clone(), &subject.extraction(), &[layer])?;
            let labels: Vec<f32> = found.labels.iter().map(|label| label.map_or(-1.0, |label| label as f32)).collect();
            let n = labels.len();
            let rows = found.layers.remove(0);
            let Speed { images_per_s, data_wait, broken } = found.speed;
            subject.tell_broken(broken);
            shapes[split] =
                json!({"shape": rows.dims(), "images_per_s": images_per_s, "data_wait": data_wait, "broken_images": broken});
            tensors.insert(format!("{split}.features"), rows.into_data());
            tensors.insert(format!("{split}.labels"), TensorData::new(labels, [n]));
        }
        write_tensors(&self.features, &tensors)?;
        if self.subject.json {
            cli::print_json(&shapes)?;
            return Ok(ExitCode::SUCCESS);
        }
        let [train, test] = ["train", "test"].map(|split| &shapes[split]["shape"]);
        cli::print(&format!("layer {}: training {train}, test {test} in {}", layers.shown(layer), self.features.display()));
        Ok(ExitCode::SUCCESS)
    }
}
