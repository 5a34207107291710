//! `unmix eval features`.

use std::path::PathBuf;
use std::process::ExitCode;

use burn::tensor::TensorData;
use clap::Args;

use super::subject::SubjectArgs;
use crate::cli;
use crate::error::Result;
use crate::eval::features::extract;
use crate::eval::knn::check_layers;
use crate::model::StateDict;
use crate::train::checkpoint::write_tensors;

/// `unmix eval features`.
#[derive(Debug, Args)]
pub struct WriteFeatures {
    #[command(flatten)]
    subject: SubjectArgs,
    /// The layer, from 1. By default the features before the head.
    #[arg(long)]
    layer: Option<usize>,
    /// The safetensors file to write: `train.features`, `train.labels`, `test.features`, `test.labels`, all f32, rows in the order of the
    /// data, not normalised. A label of -1 stands for none.
    #[arg(long, value_name = "FILE")]
    features: PathBuf,
}

impl WriteFeatures {
    /// Runs the subcommand.
    pub fn run(&self) -> Result<ExitCode> {
        let subject = self.subject.open(&[])?;
        let layer = self.layer.unwrap_or(subject.encoder.layers() - 1);
        check_layers(&[layer], &subject.encoder, "layer")?;
        subject.check_head(&[layer], "layer")?;
        let mut tensors = StateDict::new();
        for (split, source) in [("train", &subject.train), ("test", &subject.test)] {
            let mut found = extract(&subject.encoder, source.clone(), &subject.extraction(), &[layer])?;
            let labels: Vec<f32> = found.labels.iter().map(|label| label.map_or(-1.0, |label| label as f32)).collect();
            let n = labels.len();
            let rows = found.layers.remove(0);
            cli::print(&format!(
                "{split}: {:?} at {:.0} images/s, data wait {:.1} %",
                rows.dims(),
                found.images_per_s,
                100.0 * found.data_wait
            ));
            tensors.insert(format!("{split}.features"), rows.into_data());
            tensors.insert(format!("{split}.labels"), TensorData::new(labels, [n]));
        }
        write_tensors(&self.features, &tensors)?;
        cli::print(&format!("layer {layer} in {}", self.features.display()));
        Ok(ExitCode::SUCCESS)
    }
}
