//! Where images come from: the [`Source`] trait, and parts of a source.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::data::decode::RgbImage;
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

    /// True for no image at all; [`open`](crate::data::open) never returns such a source.
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

    /// What tells the image from all others of the source, wherever the source lies: a resumed run must find the same images under the same
    /// numbers. Records have nothing but their number.
    fn key(&self, index: usize) -> String {
        index.to_string()
    }

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

    fn key(&self, index: usize) -> String {
        self.inner.key(index)
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

    fn key(&self, index: usize) -> String {
        self.inner.key(self.images[index])
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
