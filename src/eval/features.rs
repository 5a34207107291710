//! Features of a frozen encoder over a whole split, without augmentation.

use std::sync::Arc;
use std::time::Instant;

use burn::tensor::{Device, Tensor};

use crate::data::{Item, Job, Loader, LoaderOptions, Source, Transform};
use crate::error::Result;
use crate::kernel::{Ingest, KernelPath, Normalization, ingest};
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
}

/// Features of all images of a source, in its order. Rows are unit vectors.
#[derive(Debug, Clone)]
pub struct Features {
    /// What the head gets, `[n, f]`.
    pub features: Tensor<2>,
    /// The embedding, `[n, d]`.
    pub embedding: Tensor<2>,
    /// Number of the embedding's layer; the features are the one before.
    pub layers: usize,
    /// One per image; `None` in unlabelled data.
    pub labels: Vec<Option<u32>>,
    /// Images per second of wall time, loading included.
    pub images_per_s: f64,
}

impl Features {
    /// One of the last two layers, by its number.
    pub fn layer(&self, layer: usize) -> &Tensor<2> {
        if layer == self.layers { &self.embedding } else { &self.features }
    }
}

/// A view without randomness takes a stream like any other and draws nothing from it.
fn unused() -> Stream {
    Stream::new(0, Purpose::Probe, &[])
}

/// Runs the encoder over `source` with its running statistics.
///
/// # Errors
/// Those of the loader.
pub fn extract(encoder: &Frozen, source: Arc<dyn Source>, how: &Extraction) -> Result<Features> {
    let start = Instant::now();
    let (n, batch) = (source.len(), how.batch);
    let jobs = (0..n).step_by(batch).map(move |from| Job {
        items: (from..(from + batch).min(n)).map(|index| Item { index: index as u32, streams: vec![unused()] }).collect(),
        payload: (),
    });
    let mut loader = Loader::start(source, how.transform.clone(), how.loader, jobs);
    let (height, width) = how.transform.size();
    let (mut features, mut embedding, mut labels) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(batch) = loader.next() {
        let batch = batch?;
        let bytes = Ingest::new([batch.index.len(), height, width], how.norm);
        let images = ingest(&batch.views[0], &bytes, &how.device, how.ingest);
        let rows = encoder.rows(images);
        features.push(rows.features);
        embedding.push(rows.embedding);
        labels.extend(batch.labels);
        loader.recycle(batch.views);
    }
    let (features, embedding) = (Tensor::cat(features, 0), Tensor::cat(embedding, 0));
    // The device may still be at work.
    how.device.sync().map_err(|error| crate::error::Error::run(format!("the device failed: {error:?}")))?;
    Ok(Features { features, embedding, layers: encoder.layers(), labels, images_per_s: n as f64 / start.elapsed().as_secs_f64() })
}
