//! The inside of the loader: what the worker threads share, and how one image becomes its views.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use crate::data::batch::{Batch, Broken, Item, Job, Transform};
use crate::data::decode::{RgbImage, load};
use crate::data::source::Source;
use crate::error::{Error, Result};

/// How many images in a row are tried in place of a broken one.
const MAX_REPLACEMENTS: usize = 100;

/// Everything the threads of one loader share.
pub(super) struct Shared<P> {
    pub maker: Maker,
    /// The most batches in flight.
    pub prefetch: usize,
    stop: AtomicBool,
    line: Mutex<Line<P>>,
    /// For workers: there may be work, or an end of it.
    changed: Condvar,
    /// For the consumer: a batch may be complete.
    ready: Condvar,
}

/// The batches in flight, oldest first, and where further ones come from.
struct Line<P> {
    jobs: Box<dyn Iterator<Item = Job<P>> + Send>,
    open: VecDeque<Begun<P>>,
    /// No further job will come.
    exhausted: bool,
    /// Why not, if the jobs did not simply end. Reported after the batches before it.
    failure: Option<Error>,
    pool: Pool,
}

/// Buffers for reuse, by their view: those of another view may be of another size.
#[derive(Default)]
pub(super) struct Pool(Vec<Vec<Vec<u8>>>);

impl Pool {
    /// A buffer of `bytes` for a view. A used one still has what it held.
    fn take(&mut self, view: usize, bytes: usize) -> Vec<u8> {
        match self.0.get_mut(view).and_then(Vec::pop) {
            Some(mut used) => {
                used.resize(bytes, 0);
                used
            }
            None => vec![0; bytes],
        }
    }

    /// Keeps at most `most` buffers of each view.
    fn keep(&mut self, views: Vec<Vec<u8>>, most: usize) {
        self.0.resize_with(self.0.len().max(views.len()), Vec::new);
        for (kept, buffer) in self.0.iter_mut().zip(views) {
            kept.push(buffer);
            kept.truncate(most);
        }
    }
}

impl<P> Shared<P> {
    pub fn new(maker: Maker, prefetch: usize, jobs: Box<dyn Iterator<Item = Job<P>> + Send>) -> Self {
        let line = Line { jobs, open: VecDeque::new(), exhausted: false, failure: None, pool: Pool::default() };
        let (changed, ready) = (Condvar::new(), Condvar::new());
        Self { maker, prefetch: prefetch.max(1), stop: AtomicBool::new(false), line: Mutex::new(line), changed, ready }
    }

    /// Tells every thread to end after its current image.
    pub fn stop(&self) {
        self.stop.store(true, SeqCst);
        let _line = lock(&self.line);
        self.changed.notify_all();
    }

    /// Ends the line with an error.
    pub fn fail(&self, error: Error) {
        let mut line = lock(&self.line);
        (line.failure, line.exhausted) = (Some(error), true);
    }

    /// The oldest batch, once complete; `None` after the last.
    pub fn take(&self) -> Option<Result<Begun<P>>> {
        let mut line = lock(&self.line);
        loop {
            match line.open.front() {
                Some(begun) if begun.work.failure.get().is_some() => return begun.work.failure.get().cloned().map(Err),
                Some(begun) if begun.work.left.load(SeqCst) == 0 => {
                    self.changed.notify_all();
                    return line.open.pop_front().map(Ok);
                }
                None if line.exhausted => return line.failure.take().map(Err),
                _ => line = self.ready.wait(line).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Keeps buffers for reuse: those of the batches in flight, and of one that is being used.
    pub fn recycle(&self, views: Vec<Vec<u8>>) {
        lock(&self.line).pool.keep(views, self.prefetch + 1);
    }

    /// A worker thread, from start to end.
    pub fn work(&self) {
        let mut scratch = Vec::new();
        while let Some(work) = self.next_work() {
            while let Some(slot) = work.claim().filter(|_| !self.stop.load(SeqCst)) {
                self.make(&work, slot, &mut scratch);
            }
        }
    }

    /// The oldest batch with an unclaimed image, a new batch if there is room for one, or a wait; `None` at the end.
    fn next_work(&self) -> Option<Arc<Work>> {
        let mut line = lock(&self.line);
        while !self.stop.load(SeqCst) {
            if let Some(begun) = line.open.iter().find(|begun| begun.work.claimable()) {
                return Some(begun.work.clone());
            }
            if line.exhausted {
                return None;
            }
            if line.open.len() < self.prefetch {
                line.draw(&self.maker);
                // Also the consumer: the line may have ended, or the batch may be empty and thereby complete.
                self.changed.notify_all();
                self.ready.notify_all();
            } else {
                line = self.changed.wait(line).unwrap_or_else(PoisonError::into_inner);
            }
        }
        None
    }

    /// Makes one image of a batch, unless the batch is already lost.
    fn make(&self, work: &Work, slot: usize, scratch: &mut Vec<u8>) {
        if work.failure.get().is_none() {
            let made = catch_unwind(AssertUnwindSafe(|| self.maker.make(work, slot, scratch)));
            let made = made.unwrap_or_else(|panic| Err(panicked(&format!("at image {}", work.items[slot].index), &*panic)));
            if let Err(error) = made {
                work.failure.get_or_init(|| error);
            }
        }
        if work.left.fetch_sub(1, SeqCst) == 1 || work.failure.get().is_some() {
            // Under the lock, or the consumer could miss it between its look and its wait.
            let _line = lock(&self.line);
            self.ready.notify_all();
        }
    }
}

impl<P> Line<P> {
    /// Begins the next job, or ends the line.
    fn draw(&mut self, maker: &Maker) {
        let begin = || self.jobs.next().map(|job| Begun::new(job, maker, &mut self.pool));
        match catch_unwind(AssertUnwindSafe(begin)) {
            Ok(Some(begun)) => self.open.push_back(begun),
            Ok(None) => self.exhausted = true,
            Err(panic) => (self.failure, self.exhausted) = (Some(panicked("while drawing a batch", &*panic)), true),
        }
    }
}

/// A batch in the making, with its payload.
pub(super) struct Begun<P> {
    pub work: Arc<Work>,
    payload: P,
}

impl<P> Begun<P> {
    pub fn new(job: Job<P>, maker: &Maker, pool: &mut Pool) -> Self {
        let (images, views) = (job.items.len(), job.items.first().map_or(0, |item| item.streams.len()));
        let failure = OnceLock::new();
        if job.items.iter().any(|item| item.streams.len() != views) {
            failure.get_or_init(|| Error::run("the images of a batch have different numbers of views"));
        }
        let views = (0..views).map(|view| Mutex::new(pool.take(view, images * maker.view_bytes(view)))).collect();
        let (next, left) = (AtomicUsize::new(0), AtomicUsize::new(images));
        let work = Work { items: job.items, next, left, views, broken: Mutex::default(), failure };
        Self { work: Arc::new(work), payload: job.payload }
    }

    /// The finished batch.
    pub fn finish(self, source: &dyn Source) -> Batch<P> {
        let mut index: Vec<u32> = self.work.items.iter().map(|item| item.index).collect();
        let mut broken = std::mem::take(&mut *lock(&self.work.broken));
        broken.sort_by_key(|one| one.slot);
        for one in &broken {
            index[one.slot] = one.replaced_by;
        }
        Batch {
            views: self.work.views.iter().map(|view| std::mem::take(&mut *lock(view))).collect(),
            labels: index.iter().map(|&i| source.label(i as usize)).collect(),
            index,
            broken,
            payload: self.payload,
        }
    }
}

/// The part of a batch that workers share.
pub(super) struct Work {
    items: Vec<Item>,
    /// The first image not yet claimed.
    next: AtomicUsize,
    /// Images not yet made.
    left: AtomicUsize,
    /// One buffer per view. Held only to copy a finished view in, which is a thousandth of the work of making it.
    views: Vec<Mutex<Vec<u8>>>,
    /// The unreadable images, in the order of discovery.
    broken: Mutex<Vec<Broken>>,
    failure: OnceLock<Error>,
}

impl Work {
    fn claimable(&self) -> bool {
        self.next.load(SeqCst) < self.items.len()
    }

    /// Hands out each slot once.
    pub fn claim(&self) -> Option<usize> {
        let slot = self.next.fetch_add(1, SeqCst);
        (slot < self.items.len()).then_some(slot)
    }

    /// The error with which the batch failed, if it did.
    pub fn failure(&self) -> Option<&Error> {
        self.failure.get()
    }
}

/// Turns images into views, and keeps the time.
pub(super) struct Maker {
    pub source: Arc<dyn Source>,
    transform: Arc<dyn Transform>,
    /// Nanoseconds of all threads.
    pub decode: AtomicU64,
    pub augment: AtomicU64,
}

impl Maker {
    pub fn new(source: Arc<dyn Source>, transform: Arc<dyn Transform>) -> Self {
        Self { source, transform, decode: AtomicU64::new(0), augment: AtomicU64::new(0) }
    }

    /// Bytes of a view of one image.
    fn view_bytes(&self, view: usize) -> usize {
        let (height, width) = self.transform.size(view);
        3 * height * width
    }

    /// Makes all views of one image, which is read and decoded once; `scratch` holds one view after the other.
    pub fn make(&self, work: &Work, slot: usize, scratch: &mut Vec<u8>) -> Result<()> {
        let start = Instant::now();
        let item = &work.items[slot];
        let (image, broken) = self.load_or_next(item.index, slot)?;
        if !broken.is_empty() {
            lock(&work.broken).extend(broken);
        }
        let decoded = Instant::now();
        for (view, (stream, buffer)) in item.streams.iter().zip(&work.views).enumerate() {
            let bytes = self.view_bytes(view);
            scratch.resize(bytes.max(scratch.len()), 0);
            let made = &mut scratch[..bytes];
            self.transform.apply(view, &image, &mut stream.clone(), made);
            lock(buffer)[slot * bytes..(slot + 1) * bytes].copy_from_slice(made);
        }
        self.decode.fetch_add((decoded - start).as_nanos() as u64, Relaxed);
        self.augment.fetch_add(decoded.elapsed().as_nanos() as u64, Relaxed);
        Ok(())
    }

    /// Loads image `index` for a place of the batch, or the next readable one after it, and names those that were not.
    fn load_or_next(&self, index: u32, slot: usize) -> Result<(RgbImage, Vec<Broken>)> {
        let (source, images) = (&*self.source, self.source.len());
        if index as usize >= images {
            return Err(Error::run(format!("image {index} was asked for, but there are {images}")));
        }
        let mut broken: Vec<Broken> = Vec::new();
        for step in 0..images.min(MAX_REPLACEMENTS) {
            let tried = (index as usize + step) % images;
            match load(source, tried) {
                Ok(image) => {
                    broken.iter_mut().for_each(|one| one.replaced_by = tried as u32);
                    return Ok((image, broken));
                }
                Err(error) => {
                    let (index, name, reason) = (tried as u32, source.name(tried), error.message().to_string());
                    broken.push(Broken { slot, index, replaced_by: index, name, reason });
                }
            }
        }
        let error = Error::run(format!("{} images in a row cannot be read, from image {index} on", broken.len()));
        Err(broken
            .into_iter()
            .take(3)
            .fold(error, |error, one| error.detail(one.reason))
            .hint("check that the data set is still there"))
    }
}

/// A panicking thread leaves every lock's data as it was: nothing is changed half-way under a lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn panicked(when: &str, panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    Error::run(format!("the loader panicked {when}: {}", text.unwrap_or("no message")))
}
