//! `unmix eval`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};

use crate::data::Split;
use crate::device;
use crate::error::{Error, Result};
use crate::eval::features::Extraction;
use crate::train::{Checkpoint, run};

/// Evaluates the encoder of a run.
#[derive(Debug, Subcommand)]
pub enum Eval {
    /// Weighted k-nearest neighbours; the bank is the training split without augmentation.
    Knn(Knn),
}

/// `unmix eval knn`.
#[derive(Debug, Args)]
pub struct Knn {
    /// Folder of the run.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// Overrides one key of the run's config, for example eval.knn.k=20.
    #[arg(long = "set", value_name = "KEY.PATH=VALUE")]
    set: Vec<String>,
    /// auto, cpu, wgpu, wgpu-cpu, cuda or cuda:INDEX.
    #[arg(long)]
    device: Option<String>,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

impl Eval {
    /// Runs the subcommand.
    pub fn run(&self) -> Result<ExitCode> {
        let Self::Knn(knn) = self;
        knn.run()
    }
}

impl Knn {
    fn run(&self) -> Result<ExitCode> {
        let config = super::run_config(&self.run, &self.set)?;
        let opened = device::open(self.device.as_deref().unwrap_or(&config.device))?.with_kernels(&config.kernels)?;
        let checkpoint = Checkpoint::read(&self.run.join("checkpoint"))?;
        let (bank, queries) = (config.data.open(Split::Train, config.seed)?, config.data.open(Split::Test, config.seed)?);
        let mut method = config.method.init(&opened.setup(&config.model, bank.len(), config.seed));
        method.restore(&checkpoint.tensors.into_iter().filter(|(name, _)| !name.starts_with("velocity.")).collect())?;

        let how = Extraction {
            transform: Arc::new(config.views.eval_recipe()),
            norm: config.views.normalization(),
            ingest: opened.info.kernels.ingest.path,
            device: opened.device,
            batch: config.eval.batch,
            loader: config.data.loader_options(),
        };
        let result = run::knn(&method.encoder(), &bank, &queries, &how, &config.eval.knn)?;
        if self.json {
            let mut object = serde_json::to_value(&result).map_err(|e| Error::run(format!("cannot write JSON: {e}")))?;
            object["step"] = checkpoint.state.step.into();
            object["device"] = opened.info.name.into();
            super::print_json(&object)?;
        } else {
            super::print(&format!(
                "weighted kNN at step {} (k {}, T {}): layer {} top-1 {:.2} %, top-5 {:.2} %; layer {} top-1 {:.2} %",
                checkpoint.state.step,
                result.k,
                result.temperature,
                result.layer,
                result.top1,
                result.top5,
                result.other_layer,
                result.other_top1
            ));
        }
        Ok(ExitCode::SUCCESS)
    }
}
