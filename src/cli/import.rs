//! `unmix import`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{ConfigArgs, export};
use crate::device;
use crate::error::Result;
use crate::model::{state, weights};

/// Checks the weights of another program against a config's model and writes them under torchvision's names.
#[derive(Debug, Args)]
pub struct Import {
    /// The `.safetensors`, `.pth` or `.pt` file. Nothing in it is run.
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    #[command(flatten)]
    config: ConfigArgs,
    /// The safetensors file to write; a run starts from it with --set model.weights=FILE.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Refuse a head that does not fit, and tensors that the model does not have.
    #[arg(long)]
    strict: bool,
}

impl Import {
    /// Runs the subcommand.
    pub fn run(&self) -> Result<ExitCode> {
        export::refuse_ending(&self.out, "--out")?;
        let config = self.config.load()?;
        let own = state::collect(&config.model.init(3, config.seed, "query", &device::open("cpu")?.device));
        let (values, report) = weights::read(&self.weights, &own, self.strict)?;
        let mut about = export::about(&config, &config.model.shape(3), report.head.is_none());
        about["source"] = self.weights.file_name().unwrap_or_default().to_string_lossy().into();
        weights::write(&self.out, &values, &about)?;
        super::print(&report.to_string());
        super::print(&format!("written to {}", self.out.display()));
        Ok(ExitCode::SUCCESS)
    }
}
