//! `unmix stats`.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::ConfigArgs;
use crate::config::RunConfig;
use crate::data::{Split, epoch_order};
use crate::error::{Error, Result};
use crate::eval::stats::channel_stats;

/// Measures mean and standard deviation per channel of the training split, in the config's colour space, over the evaluation view of
/// each image.
#[derive(Debug, Args)]
pub struct Stats {
    #[command(flatten)]
    config: ConfigArgs,
    /// Measure only so many images, drawn by the config's seed; all by default.
    #[arg(long)]
    images: Option<usize>,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

impl Stats {
    /// Runs the subcommand.
    pub fn run(&self) -> Result<ExitCode> {
        if self.images == Some(0) {
            return Err(Error::input("--images is 0: there is nothing to measure").hint("leave it away to measure all images"));
        }
        // The constants that are to be measured may be missing, which is a problem of any other command.
        let mut settings = self.config.set.clone();
        settings.extend(["views.mean=[0,0,0]".to_owned(), "views.std=[1,1,1]".to_owned()]);
        let config = RunConfig::load(&self.config.config, &settings)?;
        let source = config.data.open(Split::Train, config.seed)?;
        let count = source.len();
        // The first images of a folder would all be of one class.
        let indices = match self.images.filter(|&images| images < count) {
            Some(images) => epoch_order(config.seed, 0, count).into_iter().take(images).collect(),
            None => (0..count as u32).collect(),
        };
        let (transform, space) = (Arc::new(config.views.eval_recipe()), config.views.color_space);
        let stats = channel_stats(source.clone(), transform, space, indices, config.data.loader_options())?;
        let space = serde_json::to_value(space).map_err(|e| Error::run(format!("cannot write JSON: {e}")))?;
        if self.json {
            let mut object = serde_json::to_value(&stats).map_err(|e| Error::run(format!("cannot write JSON: {e}")))?;
            (object["color_space"], object["size"]) = (space, config.views.crop.size.into());
            super::print_json(&object)?;
            return Ok(ExitCode::SUCCESS);
        }
        let [mean, std] = [stats.mean, stats.std].map(|[a, b, c]| format!("[{a:.6},{b:.6},{c:.6}]"));
        super::print(&format!("--set views.mean={mean} --set views.std={std}"));
        let size = config.views.crop.size;
        super::print(&format!(
            "{} of {count} images at {size}x{size} in {}, {} broken; {}",
            stats.images,
            space.as_str().unwrap_or_default(),
            stats.broken,
            source.describe()
        ));
        if stats.std.contains(&0.0) {
            super::print("a channel is constant: its standard deviation must be set above 0 by hand");
        }
        Ok(ExitCode::SUCCESS)
    }
}
