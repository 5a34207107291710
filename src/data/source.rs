//! Where images come from: the [`Source`] trait and the sources that a configuration can name.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data::cifar::{Cifar, CifarConfig, CifarKind};
use crate::data::decode::RgbImage;
use crate::data::embedded::{self, EmbeddedConfig};
use crate::data::folder::{Folder, FolderConfig};
use crate::data::idx::{Idx, IdxConfig};
use crate::data::imagenet::{self, ImagenetConfig, ImagenetKind};
use crate::data::stl10::{Stl10, Stl10Config};
use crate::data::synthetic::{Synthetic, SyntheticConfig};
use crate::data::tiny_imagenet::{TinyImagenet, TinyImagenetConfig};
use crate::error::Result;

/// What a source hands to the decoder.
#[derive(Debug)]
pub enum Encoded<'a> {
    /// The bytes of an image file.
    File(Cow<'a, [u8]>),
    /// Pixels that need no decoding.
    Pixels(RgbImage),
}

/// A data set of images, shared by the loader's threads.
pub trait Source: Send + Sync {
    /// How many images there are.
    fn len(&self) -> usize;

    /// True for no image at all; [`open`] never returns such a source.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The class names, by label. Empty when the images carry no labels.
    fn classes(&self) -> &[String];

    /// The class of image `index`, an index into [`Source::classes`].
    fn label(&self, index: usize) -> Option<u32>;

    /// The image as stored. `index < len()`.
    fn encoded(&self, index: usize) -> Result<Encoded<'_>>;

    /// The image's name in messages: its path, or for example `embedded train image 17`.
    fn name(&self, index: usize) -> String;

    /// The whole source in one line.
    fn describe(&self) -> String;
}

/// Which part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// The images to train on.
    Train,
    /// The images held out.
    Test,
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Test => "test",
        })
    }
}

/// The data set, chosen by `name`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum SourceConfig {
    /// 6,000 + 1,000 images of Fashion-MNIST inside the program; needs no file.
    Embedded(EmbeddedConfig),
    /// A folder in the layout of MNIST: four IDX files, plain or gzip.
    Idx(IdxConfig),
    /// The binary version of CIFAR-10.
    Cifar10(CifarConfig),
    /// The binary version of CIFAR-100, with its fine labels.
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

/// The first images of another source (`data.limit`).
pub(crate) struct First {
    inner: Arc<dyn Source>,
    count: usize,
}

impl First {
    /// Limits `inner` to its first `count` images.
    pub(crate) fn of(inner: Arc<dyn Source>, count: usize) -> Arc<dyn Source> {
        if count >= inner.len() { inner } else { Arc::new(Self { inner, count }) }
    }
}

impl Source for First {
    fn len(&self) -> usize {
        self.count
    }

    fn classes(&self) -> &[String] {
        self.inner.classes()
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.inner.label(index)
    }

    fn encoded(&self, index: usize) -> Result<Encoded<'_>> {
        self.inner.encoded(index)
    }

    fn name(&self, index: usize) -> String {
        self.inner.name(index)
    }

    fn describe(&self) -> String {
        format!("the first {} of {}", self.count, self.inner.describe())
    }
}

/// Some images of another source, in an order of their own.
pub(crate) struct Picked {
    inner: Arc<dyn Source>,
    images: Vec<usize>,
}

impl Picked {
    /// The given images of `inner`.
    pub(crate) fn of(inner: Arc<dyn Source>, images: Vec<usize>) -> Arc<dyn Source> {
        Arc::new(Self { inner, images })
    }
}

impl Source for Picked {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn classes(&self) -> &[String] {
        self.inner.classes()
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.inner.label(self.images[index])
    }

    fn encoded(&self, index: usize) -> Result<Encoded<'_>> {
        self.inner.encoded(self.images[index])
    }

    fn name(&self, index: usize) -> String {
        self.inner.name(self.images[index])
    }

    fn describe(&self) -> String {
        format!("{} of {}", self.len(), self.inner.describe())
    }
}

/// A root folder that was never given is the one value a default cannot supply.
pub(crate) fn root_problem(root: &std::path::Path, at: &str, out: &mut Vec<String>) {
    if root.as_os_str().is_empty() {
        out.push(format!("`{at}.root` is missing, must be the folder of the data set"));
    }
}
