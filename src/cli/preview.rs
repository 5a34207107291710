//! `unmix preview`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::ConfigArgs;
use crate::data::{Loader, Split};
use crate::device;
use crate::error::{Error, Result};
use crate::kernel::Op;
use crate::sheet::SheetOptions;
use crate::train::jobs::{Length, jobs};
use crate::train::preview;
use crate::train::upload::Upload;

/// Draws what the first batch of a config looks like: originals, views, each stage of the mixture with its plan.
#[derive(Debug, Args)]
pub struct Preview {
    #[command(flatten)]
    config: ConfigArgs,
    /// The PNG file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Images to draw, mixed ones first.
    #[arg(long, default_value_t = 8)]
    count: usize,
    /// 1 for screens, 2 for print.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=2))]
    scale: u8,
    /// auto, cpu, wgpu, wgpu-cpu, cuda or cuda:INDEX; short for --set device=...
    #[arg(long)]
    device: Option<String>,
}

impl Preview {
    /// Loads, mixes, draws.
    pub fn run(&self) -> Result<ExitCode> {
        if self.count == 0 {
            return Err(Error::input("--count is 0: there is nothing to draw").hint("draw at least one image"));
        }
        let mut config = self.config.load()?;
        config.device = self.device.clone().unwrap_or(config.device);
        let config = config.resolved();
        let opened = device::open(&config.device)?.with_kernels(&config.kernels)?;
        let source = config.data.open(Split::Train, config.seed)?;
        let length = Length::of(&config, source.len())?;
        let upload =
            Upload { target: opened.target(), norm: config.views.normalization(), sizes: config.view_sizes(), seed: config.seed };
        upload.check(config.data.batch)?;
        let first = jobs(&config, source.len(), length, 0).take(1);
        let mut loader = Loader::start(source.clone(), Arc::new(config.view_recipes()), config.data.loader_options(), first);
        let batch = loader.next().ok_or_else(|| Error::run("the loader gave no batch"))??;
        let mut sheet = preview::sheet(self.count, source.as_ref(), &batch, &upload)?;
        sheet.title = format!("{}, mixture {}, seed {}, first batch", source.describe(), config.mixture.name.text(), config.seed);
        sheet.save_png(&self.out, SheetOptions { scale: self.scale.into(), ..SheetOptions::default() })?;
        let mix = opened.info.kernels.path(Op::Mix);
        super::print(&format!(
            "{} images of the first batch in {} (on {}, mixed by `{}`)",
            sheet.rows.len(),
            self.out.display(),
            opened.info.name,
            mix.name()
        ));
        Ok(ExitCode::SUCCESS)
    }
}
