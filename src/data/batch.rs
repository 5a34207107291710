//! What is asked of the loader, and what it delivers.

use crate::data::decode::RgbImage;
use crate::rng::Stream;

/// One image to load, and the stream of each of its views.
#[derive(Debug, Clone)]
pub struct Item {
    /// Index into the source.
    pub index: u32,
    /// One augmentation stream per view.
    pub streams: Vec<Stream>,
}

/// One batch to make.
#[derive(Debug, Clone)]
pub struct Job<P> {
    /// The images, in the order of the batch; all with the same views.
    pub items: Vec<Item>,
    /// Handed through to the batch, for example its mixture plan.
    pub payload: P,
}

/// Makes the views of an image, which are numbered from 0 and may differ in everything.
///
/// A panic, say at a view that it does not have, becomes an error of the [`Loader`](crate::data::Loader).
pub trait Transform: Send + Sync {
    /// Writes a view as `[3, H, W]` into `out`, every byte of it, drawing from `stream` alone.
    fn apply(&self, view: usize, image: &RgbImage, stream: &mut Stream, out: &mut [u8]);

    /// Height and width of a view.
    fn size(&self, view: usize) -> (usize, usize);
}

/// What a job became.
#[derive(Debug, Clone)]
pub struct Batch<P> {
    /// One buffer per view, `[T, 3, H, W]` with the view's own height and width. Give them back with
    /// [`Loader::recycle`](crate::data::Loader::recycle).
    pub views: Vec<Vec<u8>>,
    /// The images used, `T`; differs from the job where an image was broken.
    pub index: Vec<u32>,
    /// Their labels, `T`.
    pub labels: Vec<Option<u32>>,
    /// The images that could not be read.
    pub broken: Vec<Broken>,
    /// The job's payload.
    pub payload: P,
}

/// An image that could not be read, and what took its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The place in the batch, `0..T`, at which the replacement stands. A place has several entries where replacements were unreadable, too.
    pub slot: usize,
    /// The unreadable image.
    pub index: u32,
    /// The next readable one.
    pub replaced_by: u32,
    /// The name of the unreadable image, see [`Source::name`](crate::data::Source::name).
    pub name: String,
    /// Why it could not be read.
    pub reason: String,
}
