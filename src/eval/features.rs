//! Features of a frozen encoder over a whole split, without augmentation.
//!
//! Two rules hold for every evaluation, here and nowhere else: an image that cannot be read has no row, and features that are not finite
//! are no features.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Instant;

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::augment::ViewsConfig;
use crate::colour::Normalization;
use crate::data::{Broken, Item, Job, Loader, LoaderOptions, Source, Transform};
use crate::device::Opened;
use crate::error::{Error, Result, shown};
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
    /// Set by whoever wants the pass to end after its batch.
    pub stop: Option<&'static AtomicBool>,
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
            stop: None,
        }
    }

    /// Whether one tensor of the device holds rows of this size.
    pub fn holds(&self, rows: usize, width: usize) -> bool {
        self.largest_tensor.is_none_or(|limit| (4 * rows * width) as u64 <= limit)
    }

    /// Images of one buffer of a batch, `[n, 3, h, w]`.
    pub fn images(&self, bytes: &[u8]) -> Tensor<4> {
        let (height, width) = self.transform.size(0);
        let form = Ingest::new([bytes.len() / (3 * height * width), height, width], self.norm);
        ingest(bytes, &form, &self.device, self.ingest)
    }
}

/// Rows of all readable images of a source, in its order, layer by layer; not normalised.
#[derive(Debug, Clone)]
pub struct Features {
    /// One `[n, f]` per layer that was asked for, in that order.
    pub layers: Vec<Tensor<2>>,
    /// One per row; `None` in unlabelled data.
    pub labels: Vec<Option<u32>>,
    /// The image of each row, an index into the source.
    pub images: Vec<u32>,
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

/// Rows of the readable images of one batch.
pub struct Part {
    /// One `[n, f]` per layer that was asked for; n is at least 1.
    pub layers: Vec<Tensor<2>>,
    /// One per row.
    pub labels: Vec<Option<u32>>,
    /// The image of each row.
    pub images: Vec<u32>,
}

/// Runs the encoder over `source` with its running statistics and hands the rows of every batch to `take`. Images that cannot be read have none.
///
/// # Errors
/// Those of the loader; features that are not finite, after the last batch; an end that was asked for.
pub fn stream(
    encoder: &Frozen,
    source: Arc<dyn Source>,
    how: &Extraction,
    layers: &[usize],
    mut take: impl FnMut(Part),
) -> Result<Speed> {
    let start = Instant::now();
    let (n, batch) = (source.len(), how.batch);
    let jobs = (0..n).step_by(batch).map(move |from| {
        let images: Vec<u32> = (from..(from + batch).min(n)).map(|index| index as u32).collect();
        Job { items: images.iter().map(|&index| Item { index, streams: vec![unused()] }).collect(), payload: images }
    });
    let mut loader = Loader::start(source, how.transform.clone(), how.loader, jobs);
    let (mut unreadable, mut finite) = (Unreadable::default(), Finite::default());
    while let Some(batch) = loader.next() {
        let batch = batch?;
        if how.stop.is_some_and(|stop| stop.load(SeqCst)) {
            return Err(Error::interrupted());
        }
        unreadable.add(&batch.broken);
        let own = own_rows(&batch.index, &batch.payload);
        if !own.is_empty() {
            let rows = encoder.layer_rows(how.images(&batch.views[0]), layers);
            let rows: Vec<_> = rows.into_iter().map(|rows| select(rows, &own)).collect();
            finite.add(&rows);
            let labels = own.iter().map(|&row| batch.labels[row]).collect();
            take(Part { layers: rows, labels, images: own.iter().map(|&row| batch.index[row]).collect() });
        }
        loader.recycle(batch.views);
    }
    // The device may still be at work.
    how.device.sync().map_err(|error| Error::run(format!("the device failed: {error:?}")))?;
    finite.check(layers)?;
    let seconds = start.elapsed().as_secs_f64();
    let (images_per_s, data_wait) = (n as f64 / seconds, loader.waited().as_secs_f64() / seconds);
    Ok(Speed { images_per_s, data_wait, unreadable: unreadable.names() })
}

/// The rows of a batch that hold the image that was asked for, not another one in its place.
pub(super) fn own_rows(loaded: &[u32], asked: &[u32]) -> Vec<usize> {
    (0..asked.len()).filter(|&row| loaded[row] == asked[row]).collect()
}

/// The rows `own` of `[n, f]`.
pub(super) fn select(rows: Tensor<2>, own: &[usize]) -> Tensor<2> {
    if own.len() == rows.dims()[0] {
        return rows;
    }
    let index: Vec<i32> = own.iter().map(|&row| row as i32).collect();
    let index = Tensor::<1, Int>::from_data(TensorData::new(index, [own.len()]), &rows.device());
    rows.select(0, index)
}

/// The images that could not be read, each once, whatever number of passes met them.
#[derive(Debug, Clone, Default)]
pub struct Unreadable(BTreeMap<u32, String>);

impl Unreadable {
    /// What a batch says.
    pub fn add(&mut self, broken: &[Broken]) {
        self.0.extend(broken.iter().map(|broken| (broken.index, broken.name.clone())));
    }

    /// Their names, in the order of the source.
    pub fn names(&self) -> Vec<String> {
        self.0.values().cloned().collect()
    }
}

/// Names listed in a warning.
const LISTED: usize = 5;

/// What to tell of images that could not be read, if there are any.
pub fn unreadable_warning(names: &[String]) -> Option<String> {
    let listed: Vec<String> = names.iter().take(LISTED).map(|name| format!("`{}`", shown(name))).collect();
    let more = if names.len() > LISTED { format!(" and {} more", names.len() - LISTED) } else { String::new() };
    let count = if names.len() == 1 {
        "1 image could not be read and is".to_owned()
    } else {
        format!("{} images could not be read and are", names.len())
    };
    (!names.is_empty()).then(|| format!("{count} left out: {}{more}", listed.join(", ")))
}

/// Watches rows for values that are not finite. The sums of squares stay on the device until the end: a look at every batch would wait
/// for it.
#[derive(Default)]
pub(super) struct Finite(Vec<Tensor<1>>);

impl Finite {
    /// The rows of one batch, one tensor per layer.
    pub(super) fn add(&mut self, layers: &[Tensor<2>]) {
        // Sums propagate NaN and infinity on every device; comparisons and maxima need not.
        let sums = layers.iter().map(|rows| rows.clone().square().sum_dim(1).sum_dim(0).reshape([1]));
        self.0 = match self.0.is_empty() {
            true => sums.collect(),
            false => self.0.drain(..).zip(sums).map(|(all, sum)| all + sum).collect(),
        };
    }

    /// One look at all rows so far.
    ///
    /// # Errors
    /// The first of `layers` with a value that is not finite, or whose square is not.
    pub(super) fn check(&self, layers: &[usize]) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let sums = Tensor::cat(self.0.clone(), 0).into_data().try_to_vec::<f32>().expect("features are f32");
        sums.iter().zip(layers).find(|(sum, _)| !sum.is_finite()).map_or(Ok(()), |(_, layer)| Err(not_finite(*layer)))
    }
}

/// What an error about features that are not finite ends with.
const NOT_FINITE: &str = "are not finite";

/// The features of a layer are no numbers that could be compared.
pub fn not_finite(layer: usize) -> Error {
    Error::input(format!("the features of layer {layer} {NOT_FINITE}"))
        .hint("the run has diverged: use an earlier checkpoint, or train anew with a lower optim.lr")
}

/// The losses of a probe that learns from features are no numbers, though the features are.
pub const LOSS_NOT_FINITE: &str = "the losses of the linear probe are not finite";

/// Whether an error is [`not_finite`] or [`LOSS_NOT_FINITE`]: during training it is a warning, since a later epoch may do better.
pub fn is_not_finite(error: &Error) -> bool {
    error.message().ends_with(NOT_FINITE)
}

/// How fast a pass over a source was.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Speed {
    /// Images per second of wall time, loading included.
    pub images_per_s: f64,
    /// Share of the time spent waiting for the loader.
    pub data_wait: f64,
    /// Names of the images that could not be read.
    pub unreadable: Vec<String>,
}

/// The rows of `layers` (from 1) for all readable images of `source`, kept on the device.
///
/// # Errors
/// Those of [`stream`]; more rows than one tensor of the device holds; no readable image.
pub fn extract(encoder: &Frozen, source: Arc<dyn Source>, how: &Extraction, layers: &[usize]) -> Result<Features> {
    let (mut parts, mut labels, mut images) = (vec![Vec::new(); layers.len()], Vec::new(), Vec::new());
    let widths = widths(encoder, how, layers);
    if let Some((layer, width)) = layers.iter().zip(&widths).find(|(_, width)| !how.holds(source.len(), **width)) {
        let mib = (how.largest_tensor.unwrap_or(0)) >> 20;
        let what = format!(
            "layer {layer} has {width} values per image, for {} images more than a tensor of this device holds ({mib} MiB)",
            source.len()
        );
        return Err(Error::input(what).hint("choose a later layer, or --device cpu or cuda"));
    }
    let split = source.describe();
    let speed = stream(encoder, source, how, layers, |part| {
        parts.iter_mut().zip(part.layers).for_each(|(all, rows)| all.push(rows));
        labels.extend(part.labels);
        images.extend(part.images);
    })?;
    if images.is_empty() {
        return Err(Error::input(format!("no image can be read of {split}")).hint("look at the files of data.source"));
    }
    let layers = parts.into_iter().map(|part| Tensor::cat(part, 0)).collect();
    Ok(Features { layers, labels, images, speed })
}

/// Widths of the rows of `layers`.
pub fn widths(encoder: &Frozen, how: &Extraction, layers: &[usize]) -> Vec<usize> {
    let (height, width) = how.transform.size(0);
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

#[cfg(test)]
mod tests;
