//! `unmix eval features`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::feature_file::{Format, Rows};
use super::subject::SubjectArgs;
use crate::cli;
use crate::error::Result;
use crate::eval::features::extract;
use crate::model::LayerName;

/// `unmix eval features`.
#[derive(Debug, Args)]
pub struct WriteFeatures {
    #[command(flatten)]
    subject: SubjectArgs,
    /// The layer: features, embedding, or a number from 1 (-1 is the last).
    #[arg(long, default_value_t = LayerName::FEATURES, allow_negative_numbers = true)]
    layer: LayerName,
    /// The file to write; rows are in the order of the data and not normalised, and a label of -1 stands for none. `.safetensors` holds
    /// `train.features`, `train.labels`, `test.features`, `test.labels`, all f32. `.csv` has a line per image: split, name, label, numbers.
    /// `.npy` makes four files, `x.train.npy`, `x.train-labels.npy` and the same of `test`.
    #[arg(long, value_name = "FILE")]
    features: PathBuf,
}

impl WriteFeatures {
    /// Runs the subcommand.
    pub fn run(&self) -> Result<ExitCode> {
        self.subject.refuse_out("name the file to write with --features FILE")?;
        let format = Format::of(&self.features)?;
        let subject = self.subject.open(&[])?;
        let layers = subject.encoder.layers();
        let layer = self.layer.resolve(&layers, "layer")?;
        subject.check_head(&[layer], "layer")?;
        let (mut splits, mut shapes) = (Vec::new(), json!({"layer": layer, "layer_name": layers.name(layer)}));
        for (split, source) in [("train", &subject.train), ("test", &subject.test)] {
            let mut found = extract(&subject.encoder, source.clone(), &subject.single_pass()?, &[layer])?;
            let rows = found.layers.remove(0);
            let speed = &found.speed;
            subject.tell_unreadable(&speed.unreadable);
            shapes[split] = json!({
                "shape": rows.dims(), "images_per_s": speed.images_per_s, "data_wait": speed.data_wait,
                "broken_images": speed.unreadable.len(), "unreadable": speed.unreadable,
            });
            splits.push(Rows {
                split,
                names: found.images.iter().map(|&index| source.name(index as usize)).collect(),
                labels: found.labels.iter().map(|label| label.map_or(-1.0, |label| label as f32)).collect(),
                features: rows.into_data(),
            });
        }
        shapes["files"] = format.write(&self.features, &splits)?.iter().map(|path| path.display().to_string()).collect();
        if self.subject.json {
            cli::print_json(&shapes)?;
            return Ok(ExitCode::SUCCESS);
        }
        let [train, test] = ["train", "test"].map(|split| &shapes[split]["shape"]);
        let files: Vec<&str> = shapes["files"].as_array().into_iter().flatten().filter_map(|file| file.as_str()).collect();
        cli::print(&format!("layer {}: training {train}, test {test} in {}", layers.shown(layer), files.join(", ")));
        Ok(ExitCode::SUCCESS)
    }
}
