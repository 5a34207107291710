//! Features of a frozen encoder over a whole split, without augmentation.

use std::sync::Arc;
use std::time::Instant;

use burn::tensor::{Device, Tensor};

use crate::augment::ViewsConfig;
use crate::colour::Normalization;
use crate::data::{Item, Job, Loader, LoaderOptions, Source, Transform};
use crate::device::Opened;
use crate::error::{Error, Result};
use crate::kernel::{Ingest, KernelPath, Op, ingest};
use crate::loss::unit_rows;
use crate::model::Frozen;
use crate::rng::{Purpose, Stream};

/// Where and how the forward passes run.
#[derive(Clone)]
pub struct Extraction {
    /// The view that is evaluated (no randomness).
    pub transform: Arc<dyn Transform>,
    /// Normalisation of the bytes.
    pub norm: Normalization,
    /// Device, without autodiff.
    pub device: Device,
    /// The kernel that turns bytes into images.
    pub ingest: KernelPath,
    /// Images per forward.
    pub batch: usize,
    /// Threads and tolerance of the loader.
    pub loader: LoaderOptions,
    /// The largest tensor of the device in bytes, if it has a limit.
    pub largest_tensor: Option<u64>,
}

impl Extraction {
    /// Evaluation views of `batch` images each on an open device.
    pub fn new(views: &ViewsConfig, batch: usize, loader: LoaderOptions, opened: &Opened) -> Self {
        Self {
            transform: Arc::new(views.eval_recipe()),
            norm: views.normalization(),
            device: opened.device.clone(),
            ingest: opened.info.kernels.path(Op::Ingest),
            batch,
            loader,
            largest_tensor: opened.info.largest_tensor(),
        }
    }

    /// Whether one tensor of the device holds rows of this size.
    pub fn holds(&self, rows: usize, width: usize) -> bool {
        self.largest_tensor.is_none_or(|limit| (4 * rows * width) as u64 <= limit)
    }

    /// Images of one buffer of a batch, `[n, 3, h, w]`.
    pub fn images(&self, bytes: &[u8]) -> Tensor<4> {
        let (height, width) = self.transform.size();
        let form = Ingest::new([bytes.len() / (3 * height * width), height, width], self.norm);
        ingest(bytes, &form, &self.device, self.ingest)
    }
}

/// Rows of all images of a source, in its order, layer by layer; not normalised.
#[derive(Debug, Clone)]
pub struct Features {
    /// One `[n, f]` per layer that was asked for, in that order.
    pub layers: Vec<Tensor<2>>,
    /// One per image; `None` in unlabelled data.
    pub labels: Vec<Option<u32>>,
    /// How fast they came.
    pub speed: Speed,
}

impl Features {
    /// The labels, if every image has one.
    ///
    /// # Errors
    /// Unlabelled images; `what` needs labels.
    pub fn known(&self, what: &str) -> Result<Vec<u32>> {
        let all: Option<Vec<u32>> = self.labels.iter().copied().collect();
        all.ok_or_else(|| unlabelled(what))
    }
}

/// There are no labels, and `what` needs them.
pub fn unlabelled(what: &str) -> Error {
    Error::input(format!("{what} needs a label for every image, and the images have none"))
        .hint("put the images into class folders, or name labelled data with --data")
}

/// A view without randomness takes a stream like any other and draws nothing from it.
fn unused() -> Stream {
    Stream::new(0, Purpose::Probe, &[])
}

/// Runs the encoder over `source` with its running statistics and hands the rows of every batch, one tensor per layer, to `take`.
///
/// # Errors
/// Those of the loader.
pub fn stream(
    encoder: &Frozen,
    source: Arc<dyn Source>,
    how: &Extraction,
    layers: &[usize],
    mut take: impl FnMut(Vec<Tensor<2>>, Vec<Option<u32>>),
) -> Result<Speed> {
    let start = Instant::now();
    let (n, batch) = (source.len(), how.batch);
    let jobs = (0..n).step_by(batch).map(move |from| Job {
        items: (from..(from + batch).min(n)).map(|index| Item { index: index as u32, streams: vec![unused()] }).collect(),
        payload: (),
    });
    let mut loader = Loader::start(source, how.transform.clone(), how.loader, jobs);
    while let Some(batch) = loader.next() {
        let batch = batch?;
        take(encoder.layer_rows(how.images(&batch.views[0]), layers), batch.labels);
        loader.recycle(batch.views);
    }
    // The device may still be at work.
    how.device.sync().map_err(|error| Error::run(format!("the device failed: {error:?}")))?;
    let seconds = start.elapsed().as_secs_f64();
    let (images_per_s, data_wait) = (n as f64 / seconds, loader.waited().as_secs_f64() / seconds);
    Ok(Speed { images_per_s, data_wait, broken: loader.broken() })
}

/// How fast a pass over a source was.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Speed {
    /// Images per second of wall time, loading included.
    pub images_per_s: f64,
    /// Share of the time spent waiting for the loader.
    pub data_wait: f64,
    /// Images that could not be read, in whose place stands the next readable one.
    pub broken: usize,
}

/// The rows of `layers` (from 1) for all images of `source`, kept on the device.
///
/// # Errors
/// Those of the loader; more rows than one tensor of the device holds.
pub fn extract(encoder: &Frozen, source: Arc<dyn Source>, how: &Extraction, layers: &[usize]) -> Result<Features> {
    let (mut parts, mut labels) = (vec![Vec::new(); layers.len()], Vec::new());
    let widths = widths(encoder, how, layers);
    if let Some((layer, width)) = layers.iter().zip(&widths).find(|(_, width)| !how.holds(source.len(), **width)) {
        let mib = (how.largest_tensor.unwrap_or(0)) >> 20;
        let what = format!(
            "layer {layer} has {width} values per image, for {} images more than a tensor of this device holds ({mib} MiB)",
            source.len()
        );
        return Err(Error::input(what).hint("choose a later layer, or --device cpu or cuda"));
    }
    let speed = stream(encoder, source, how, layers, |rows, seen| {
        parts.iter_mut().zip(rows).for_each(|(part, rows)| part.push(rows));
        labels.extend(seen);
    })?;
    let layers = parts.into_iter().map(|part| Tensor::cat(part, 0)).collect();
    Ok(Features { layers, labels, speed })
}

/// Widths of the rows of `layers`.
pub fn widths(encoder: &Frozen, how: &Extraction, layers: &[usize]) -> Vec<usize> {
    let (height, width) = how.transform.size();
    let rows = encoder.layer_rows(Tensor::zeros([1, 3, height, width], &how.device), layers);
    rows.iter().map(|rows| rows.dims()[1]).collect()
}

/// The same with unit rows: for cosine similarities. Where the halves of CMC stand beside each other, the whole row has length 1.
///
/// # Errors
/// Those of the loader.
pub fn extract_unit(encoder: &Frozen, source: Arc<dyn Source>, how: &Extraction, layers: &[usize]) -> Result<Features> {
    let features = extract(encoder, source, how, layers)?;
    Ok(Features { layers: features.layers.into_iter().map(unit_rows).collect(), ..features })
}
