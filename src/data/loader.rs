//! Batches of augmented views, made by worker threads and delivered in the order of their jobs.
//!
//! Workers take single images of the oldest batch that still has some, so one slow image holds nobody up. An image is read
//! and decoded once, and all its views are made from it. At most [`LoaderOptions::prefetch`] batches are in flight. Who made
//! which image has no influence on a single byte, nor on the batch at which a run stops.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::data::batch::{Batch, Job, Transform};
use crate::data::source::Source;
use crate::data::worker::{Begun, Maker, Pool, Shared};
use crate::error::{Error, Result};

/// How the loader works. None of it changes what is loaded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoaderOptions {
    /// Threads; 0 means one per core.
    pub workers: usize,
    /// The most batches begun and not yet delivered; at least 1 is used.
    pub prefetch: usize,
    /// The loader fails once more than this share of the source was found unreadable: `distinct > max_broken * len`.
    pub max_broken: f64,
}

/// Time spent by all workers together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Busy {
    /// Reading and decoding.
    pub decode: Duration,
    /// In [`Transform::apply`].
    pub augment: Duration,
}

/// Delivers batches in order. Dropping it stops and joins its threads, within the time of one image.
pub struct Loader<P> {
    shared: Arc<Shared<P>>,
    workers: Vec<JoinHandle<()>>,
    waited: Duration,
    max_broken: f64,
    broken: BTreeMap<u32, String>,
    ended: bool,
}

impl<P: Send + 'static> Loader<P> {
    /// Starts the threads. `jobs` is advanced lazily, in order, by whichever worker needs a new batch; a panic in it or in
    /// `transform` is returned as an error by [`Loader::next`].
    pub fn start(
        source: Arc<dyn Source>,
        transform: Arc<dyn Transform>,
        options: LoaderOptions,
        jobs: impl Iterator<Item = Job<P>> + Send + 'static,
    ) -> Self {
        let shared = Arc::new(Shared::new(Maker::new(source, transform), options.prefetch, Box::new(jobs)));
        let count = match options.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            count => count,
        };
        let mut workers = Vec::new();
        for number in 0..count {
            let shared_too = shared.clone();
            match std::thread::Builder::new().name(format!("loader-{number}")).spawn(move || shared_too.work()) {
                Ok(worker) => workers.push(worker),
                // Fewer threads only cost time; none at all would wait for ever.
                Err(e) if workers.is_empty() => shared.fail(Error::run(format!("cannot start a thread: {e}"))),
                Err(_) => break,
            }
        }
        Self { shared, workers, waited: Duration::ZERO, max_broken: options.max_broken, broken: BTreeMap::new(), ended: false }
    }

    /// The next batch; `None` after the last one and after an error.
    ///
    /// # Errors
    /// Too many unreadable images, or a panic in a worker.
    #[allow(clippy::should_implement_trait)] // an iterator would own no `recycle`
    pub fn next(&mut self) -> Option<Result<Batch<P>>> {
        if self.ended {
            return None;
        }
        let start = Instant::now();
        let outcome = self.shared.take().map(|begun| self.deliver(begun?));
        self.waited += start.elapsed();
        self.ended = !matches!(outcome, Some(Ok(_)));
        if self.ended {
            self.shared.stop();
        }
        outcome
    }

    /// Gives view buffers back for reuse, in the order of the views.
    pub fn recycle(&self, views: Vec<Vec<u8>>) {
        self.shared.recycle(views);
    }

    /// Total time [`Loader::next`] blocked.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// What the workers spent their time on.
    pub fn busy(&self) -> Busy {
        let time = |counter: &AtomicU64| Duration::from_nanos(counter.load(Relaxed));
        Busy { decode: time(&self.shared.maker.decode), augment: time(&self.shared.maker.augment) }
    }

    /// Distinct unreadable images met so far.
    pub fn broken(&self) -> usize {
        self.broken.len()
    }

    /// Counts broken images on delivery, so that the batch at which a run stops does not depend on the threads.
    fn deliver(&mut self, begun: Begun<P>) -> Result<Batch<P>> {
        let batch = begun.finish(&*self.shared.maker.source);
        self.broken.extend(batch.broken.iter().map(|broken| (broken.index, broken.reason.clone())));
        let (found, images) = (self.broken.len(), self.shared.maker.source.len());
        if batch.broken.is_empty() || found as f64 <= self.max_broken * images as f64 {
            return Ok(batch);
        }
        let share = 100.0 * self.max_broken;
        let error = Error::input(format!("{found} of {images} images cannot be read, more than the {share} % allowed"));
        let error =
            self.broken.values().take(3).fold(error, |error, reason| error.detail(reason.lines().next().unwrap_or_default()));
        Err(error.hint("mend or remove these files, or raise `data.max_broken`"))
    }
}

impl<P> Drop for Loader<P> {
    fn drop(&mut self) {
        self.shared.stop();
        for worker in self.workers.drain(..) {
            // A worker catches every panic of the code it calls and reports it through `next`.
            let _ = worker.join();
        }
    }
}

/// Makes one batch on the calling thread, exactly as a [`Loader`] would, without a limit to broken images.
///
/// # Errors
/// When no readable image can be found for an item.
pub fn make_batch<P>(source: Arc<dyn Source>, transform: Arc<dyn Transform>, job: Job<P>) -> Result<Batch<P>> {
    let maker = Maker::new(source, transform);
    let (begun, mut scratch) = (Begun::new(job, &maker, &mut Pool::default()), Vec::new());
    if let Some(error) = begun.work.failure() {
        return Err(error.clone());
    }
    while let Some(slot) = begun.work.claim() {
        maker.make(&begun.work, slot, &mut scratch)?;
    }
    Ok(begun.finish(&*maker.source))
}
