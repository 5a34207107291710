//! `unmix bench loader`: image files to two views of bytes, without a device.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use crate::augment::{RecipeName, ViewsConfig};
use crate::data::folder::FolderConfig;
use crate::data::{DataConfig, Item, Job, Loader, LoaderOptions, Source, SourceConfig, Split};
use crate::error::{Error, Result};
use crate::rng::{Purpose, Stream};

/// JPEG files to two augmented views (MoCo v2 recipe).
#[derive(Debug, Args)]
pub struct LoaderBench {
    /// Folder of images.
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Edge of a view in pixels.
    #[arg(long, default_value_t = 224)]
    size: usize,
    /// Images per batch.
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Passes over the folder.
    #[arg(long, default_value_t = 8)]
    repeat: usize,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

impl LoaderBench {
    /// Measures and prints.
    pub fn run(&self) -> Result<ExitCode> {
        if self.size == 0 || self.batch == 0 || self.repeat == 0 || self.workers == 0 {
            return Err(Error::input("--size, --batch, --repeat and --workers must be at least 1"));
        }
        let config = SourceConfig::Folder(FolderConfig { root: self.root.clone(), ..FolderConfig::default() });
        let source = DataConfig { source: config, ..DataConfig::default() }.open(Split::Train, 1)?;
        let crops = self.images_per_s(&source, RecipeName::Plain)?;
        let full = self.images_per_s(&source, RecipeName::MocoV2)?;
        if self.json {
            super::super::print_json(&json!({
                "decode_and_two_crops_images_per_s": crops, "full_recipe_images_per_s": full, "workers": self.workers, "size": self.size,
                "batch": self.batch, "images": source.len(), "repeat": self.repeat, "version": env!("CARGO_PKG_VERSION"),
            }))?;
        } else {
            super::super::print(&format!(
                "{} images x {}, {} workers, two views of {}: decode and two crops {crops:.0} images/s, full recipe {full:.0} images/s",
                source.len(),
                self.repeat,
                self.workers,
                self.size
            ));
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Source images per second through decode and two views. One pass first: it fills the file cache.
    fn images_per_s(&self, source: &Arc<dyn Source>, recipe: RecipeName) -> Result<f64> {
        let mut views = ViewsConfig { recipe, ..ViewsConfig::default() };
        (views.crop.size, views.crop.min_area) = (self.size, Some(0.2));
        let transform = Arc::new(views.recipe());
        let pass = |repeat: usize| -> Result<usize> {
            let (n, batch) = (source.len(), self.batch);
            let jobs = (0..n * repeat).step_by(batch).map(move |from| Job {
                items: (from..(from + batch).min(n * repeat))
                    .map(|i| Item {
                        index: (i % n) as u32,
                        streams: (0..2).map(|v| Stream::new(1, Purpose::View, &[0, i as u64, v])).collect(),
                    })
                    .collect(),
                payload: (),
            });
            let options = LoaderOptions { workers: self.workers, ..DataConfig::default().loader_options() };
            let mut loader = Loader::start(source.clone(), transform.clone(), options, jobs);
            let mut images = 0;
            while let Some(batch) = loader.next() {
                let batch = batch?;
                images += batch.index.len();
                loader.recycle(batch.views);
            }
            Ok(images)
        };
        pass(1)?;
        let start = Instant::now();
        let images = pass(self.repeat)?;
        Ok(images as f64 / start.elapsed().as_secs_f64())
    }
}
