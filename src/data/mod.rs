//! Images, from the bytes on disk to batches of `u8` views.
//!
//! ```text
//! source   Encoded            one file per data set: embedded, idx, cifar, stl10, imagenet, tiny_imagenet, folder, synthetic
//!   -> decode    RgbImage     [H, W, 3] u8, once per image
//!   -> Transform              each view, [3, H, W] u8, drawn from the view's own stream
//!   -> loader    Batch        views of [T, 3, H, W] u8, indices, labels
//! order                       which images an epoch visits, and in how many steps
//! ```
//! Nothing here depends on the number of worker threads: every view has its own random stream, and batches arrive in the
//! order of their jobs.

pub mod batch;
pub mod cifar;
pub mod decode;
pub mod embedded;
pub mod file_list;
pub mod folder;
pub mod idx;
pub mod imagenet;
pub(crate) mod lists;
pub mod loader;
pub mod order;
pub mod source;
pub mod sources;
pub mod stl10;
pub mod synthetic;
pub mod tiny_imagenet;
mod worker;

#[cfg(test)]
mod loader_tests;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use batch::{Batch, Broken, Item, Job, Transform};
pub use decode::{RgbImage, decode, load};
pub use loader::{Busy, Loader, LoaderOptions, make_batch};
pub use order::{epoch_order, steps_per_epoch};
pub use source::{Encoded, Source, Split};
pub use sources::{SourceConfig, open};

use crate::error::Result;

/// The data set and how it is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// The data set.
    pub source: SourceConfig,
    /// Images per step, not counting partner images drawn for a mixture.
    pub batch: usize,
    /// Images that are computed at a time, to save memory: the batch is accumulated exactly, in whole SplitBN groups (`model.bn_splits`). Default:
    /// the whole batch at once.
    pub micro_batch: Option<usize>,
    /// Threads that read, decode and augment; 0 means one per core.
    pub workers: usize,
    /// Batches in flight: drawn but not yet taken by the training step.
    pub prefetch: usize,
    /// Whether to leave out the last, smaller batch of an epoch.
    pub drop_last: bool,
    /// Share of the images that may be unreadable (each is replaced by the next readable one) before the run stops.
    pub max_broken: f64,
    /// Use only the first images of each split, at most this many.
    pub limit: Option<usize>,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            source: SourceConfig::default(),
            batch: 128,
            micro_batch: None,
            workers: 0,
            prefetch: 4,
            drop_last: true,
            max_broken: 0.01,
            limit: None,
        }
    }
}

impl DataConfig {
    /// Pushes one line per value out of range; `at` is the path of this table, usually `data`.
    pub fn problems(&self, at: &str, out: &mut Vec<String>) {
        for (key, value) in [("batch", Some(self.batch)), ("prefetch", Some(self.prefetch)), ("limit", self.limit)] {
            if value == Some(0) {
                out.push(format!("`{at}.{key}` is 0, must be at least 1"));
            }
        }
        if !(0.0..=1.0).contains(&self.max_broken) {
            out.push(format!("`{at}.max_broken` is {}, must be between 0 and 1", self.max_broken));
        }
        self.source.problems(&format!("{at}.source"), out);
    }

    /// Opens one split of the source, cut to [`DataConfig::limit`]. `seed` is used by the synthetic source only.
    ///
    /// # Errors
    /// As [`open`].
    pub fn open(&self, split: Split, seed: u64) -> Result<Arc<dyn Source>> {
        let source = open(&self.source, split, seed)?;
        Ok(source::First::of(source, self.limit.unwrap_or(usize::MAX)))
    }

    /// The loader's part of this configuration.
    pub fn loader_options(&self) -> LoaderOptions {
        LoaderOptions { workers: self.workers, prefetch: self.prefetch, max_broken: self.max_broken }
    }
}
