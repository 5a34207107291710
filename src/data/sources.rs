//! The sources that a configuration can name.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data::cifar::{Cifar, CifarConfig, CifarKind};
use crate::data::embedded::{self, EmbeddedConfig};
use crate::data::folder::{Folder, FolderConfig};
use crate::data::idx::{Idx, IdxConfig};
use crate::data::imagenet::{self, ImagenetConfig, ImagenetKind};
use crate::data::source::{Source, Split};
use crate::data::stl10::{Stl10, Stl10Config};
use crate::data::synthetic::{Synthetic, SyntheticConfig};
use crate::data::tiny_imagenet::{TinyImagenet, TinyImagenetConfig};
use crate::error::Result;

/// The data set, chosen by `name`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum SourceConfig {
    /// 6,000 + 1,000 images of Fashion-MNIST inside the program; needs no file.
    Embedded(EmbeddedConfig),
    /// A folder in the layout of MNIST: four IDX files, plain or gzip.
    Idx(IdxConfig),
    /// CIFAR-10, the binary or the Python version.
    Cifar10(CifarConfig),
    /// CIFAR-100 with its fine labels, the binary or the Python version.
    Cifar100(CifarConfig),
    /// The binary version of STL-10.
    Stl10(Stl10Config),
    /// Tiny ImageNet, 200 classes.
    TinyImagenet(TinyImagenetConfig),
    /// ImageNet (ILSVRC 2012), 1,000 classes.
    Imagenet(ImagenetConfig),
    /// The 100 classes of ImageNet that CMC chose.
    Imagenet100(ImagenetConfig),
    /// Image files, in class folders or without labels.
    Folder(FolderConfig),
    /// Generated patterns, for tests and benchmarks.
    Synthetic(SyntheticConfig),
}

impl Default for SourceConfig {
    fn default() -> Self {
        Self::Embedded(EmbeddedConfig {})
    }
}

impl SourceConfig {
    /// Pushes one line per value out of range; `at` is the path of this table, for example `data.source`.
    pub fn problems(&self, at: &str, out: &mut Vec<String>) {
        match self {
            Self::Embedded(_) => {}
            Self::Idx(config) => config.problems(at, out),
            Self::Cifar10(config) | Self::Cifar100(config) => config.problems(at, out),
            Self::Stl10(config) => config.problems(at, out),
            Self::TinyImagenet(config) => config.problems(at, out),
            Self::Imagenet(config) | Self::Imagenet100(config) => config.problems(at, out),
            Self::Folder(config) => config.problems(at, out),
            Self::Synthetic(config) => config.problems(at, out),
        }
    }
}

/// Opens one split of the configured source. `seed` is used by the synthetic source only.
///
/// # Errors
/// A missing or unreadable file or folder, damaged data, or a split without a single image.
pub fn open(config: &SourceConfig, split: Split, seed: u64) -> Result<Arc<dyn Source>> {
    Ok(match config {
        SourceConfig::Embedded(_) => Arc::new(embedded::open(split)?),
        SourceConfig::Idx(config) => Arc::new(Idx::open(config, split)?),
        SourceConfig::Cifar10(config) => Arc::new(Cifar::open(config, CifarKind::Ten, split)?),
        SourceConfig::Cifar100(config) => Arc::new(Cifar::open(config, CifarKind::Hundred, split)?),
        SourceConfig::Stl10(config) => Arc::new(Stl10::open(config, split)?),
        SourceConfig::TinyImagenet(config) => Arc::new(TinyImagenet::open(config, split)?),
        SourceConfig::Imagenet(config) => Arc::new(imagenet::open(config, ImagenetKind::Thousand, split)?),
        SourceConfig::Imagenet100(config) => Arc::new(imagenet::open(config, ImagenetKind::Hundred, split)?),
        SourceConfig::Folder(config) => Arc::new(Folder::open(config, split)?),
        SourceConfig::Synthetic(config) => Arc::new(Synthetic::new(config, split, seed)),
    })
}
