//! Features of a frozen encoder over a whole split, without augmentation.

use std::sync::Arc;
use std::time::Instant;

use burn::tensor::{Device, Tensor};

use crate::data::{Item, Job, Loader, LoaderOptions, Source, Transform};
use crate::error::Result;
use crate::kernel::{Ingest, KernelPath, Normalization, ingest};
use crate::loss::unit_rows;
use crate::model::{Encoder, Pass};
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
    /// Layer 6, `[n, f]`.
    pub pooled: Tensor<2>,
    /// Layer 7, `[n, d]`.
    pub embedding: Tensor<2>,
    /// One per image; `None` in unlabelled data.
    pub labels: Vec<Option<u32>>,
    /// Images per second of wall time, loading included.
    pub images_per_s: f64,
}

impl Features {
    /// The features of one layer, 6 or 7.
    pub fn layer(&self, layer: usize) -> &Tensor<2> {
        if layer == 6 { &self.pooled } else { &self.embedding }
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
pub fn extract(encoder: &Encoder, source: Arc<dyn Source>, how: &Extraction) -> Result<Features> {
    let start = Instant::now();
    let (n, batch) = (source.len(), how.batch);
    let jobs = (0..n).step_by(batch).map(move |from| Job {
        items: (from..(from + batch).min(n)).map(|index| Item { index: index as u32, streams: vec![unused()] }).collect(),
        payload: (),
    });
    let mut loader = Loader::start(source, how.transform.clone(), how.loader, jobs);
    let (height, width) = how.transform.size();
    let (mut pooled, mut embedding, mut labels) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(batch) = loader.next() {
        let batch = batch?;
        let bytes = Ingest::new([batch.index.len(), height, width], how.norm);
        let images = ingest(&batch.views[0], &bytes, &how.device, how.ingest);
        let taps = encoder.taps(images, &mut Pass::Eval);
        pooled.push(unit_rows(taps.pooled));
        embedding.push(taps.embedding);
        labels.extend(batch.labels);
        loader.recycle(batch.views);
    }
    let (pooled, embedding) = (Tensor::cat(pooled, 0), Tensor::cat(embedding, 0));
    // The device may still be at work.
    how.device.sync().map_err(|error| crate::error::Error::run(format!("the device failed: {error:?}")))?;
    Ok(Features { pooled, embedding, labels, images_per_s: n as f64 / start.elapsed().as_secs_f64() })
}
