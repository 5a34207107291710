//! The loader's promises: equal bytes for any number of workers, broken images, bounds and ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::data::{Batch, Encoded, Item, Job, Loader, LoaderOptions, RgbImage, Source, Transform, make_batch};
use crate::error::{Error, Result};
use crate::rng::{Purpose, Stream};

/// `len` images of 2x2, filled with their index; some are broken.
struct Plain {
    len: usize,
    broken: Vec<usize>,
    /// Images that were read.
    read: AtomicUsize,
}

impl Source for Plain {
    fn len(&self) -> usize {
        self.len
    }
    fn classes(&self) -> &[String] {
        &[]
    }
    fn label(&self, index: usize) -> Option<u32> {
        Some(index as u32 + 1000)
    }
    fn encoded(&self, index: usize) -> Result<Encoded<'_>> {
        self.read.fetch_add(1, SeqCst);
        if self.broken.contains(&index) {
            return Err(Error::input(format!("plain {index} is broken")));
        }
        Ok(Encoded::Pixels(RgbImage { height: 2, width: 2, pixels: vec![index as u8; 12] }))
    }
    fn name(&self, index: usize) -> String {
        format!("plain {index}")
    }
    fn describe(&self) -> String {
        "plain".into()
    }
}

/// Writes the image's value plus noise from the stream; `on` is called with the image's value first.
struct Noise<F: Fn(u8) + Send + Sync>(F);

impl<F: Fn(u8) + Send + Sync> Transform for Noise<F> {
    fn apply(&self, _view: usize, image: &RgbImage, stream: &mut Stream, out: &mut [u8]) {
        (self.0)(image.pixels[0]);
        out.iter_mut().for_each(|byte| *byte = image.pixels[0].wrapping_add(stream.below(7) as u8));
    }
    fn size(&self, _view: usize) -> (usize, usize) {
        (3, 5)
    }
}

/// Views of three sizes; each pixel is the image's value plus noise from the stream, and the number of the view.
struct Crops;

const CROPS: [(usize, usize); 3] = [(3, 5), (2, 2), (1, 4)];

impl Transform for Crops {
    fn apply(&self, view: usize, image: &RgbImage, stream: &mut Stream, out: &mut [u8]) {
        assert_eq!(out.len(), 3 * CROPS[view].0 * CROPS[view].1);
        let from = image.pixels[0] + 10 * view as u8;
        out.iter_mut().for_each(|byte| *byte = from.wrapping_add(stream.below(7) as u8));
    }
    fn size(&self, view: usize) -> (usize, usize) {
        CROPS[view]
    }
}

/// A job whose images have `views` views.
fn job_of(views: u64, step: usize, indices: &[u32]) -> Job<usize> {
    let streams = |index: u32| (0..views).map(|view| Stream::new(1, Purpose::View, &[0, index.into(), view])).collect();
    Job { items: indices.iter().map(|&index| Item { index, streams: streams(index) }).collect(), payload: step }
}

fn job(step: usize, indices: &[u32]) -> Job<usize> {
    job_of(2, step, indices)
}

/// Steps of seven images that walk through 50, the last with three.
fn jobs() -> impl Iterator<Item = Job<usize>> + Send + 'static {
    (0..8).map(|step| job(step, &(step as u32 * 7..50.min(step as u32 * 7 + 7)).collect::<Vec<u32>>()))
}

fn options(workers: usize, prefetch: usize) -> LoaderOptions {
    LoaderOptions { workers, prefetch, max_broken: 0.1 }
}

fn plain(broken: &[usize]) -> Arc<Plain> {
    Arc::new(Plain { len: 50, broken: broken.to_vec(), read: AtomicUsize::new(0) })
}

fn quiet() -> Arc<dyn Transform> {
    Arc::new(Noise(|_| ()))
}

type Summary = (Vec<Vec<u8>>, Vec<u32>, Vec<Option<u32>>, Vec<(u32, u32)>, usize);

fn summary(batch: Batch<usize>) -> Summary {
    let broken = batch.broken.iter().map(|one| (one.index, one.replaced_by)).collect();
    (batch.views, batch.index, batch.labels, broken, batch.payload)
}

fn drain(mut loader: Loader<usize>) -> Result<Vec<Summary>> {
    std::iter::from_fn(|| loader.next()).map(|batch| batch.map(summary)).collect()
}

#[test]
fn any_number_of_workers_gives_the_bytes_of_one_thread() {
    let source = plain(&[4, 20, 21, 49]);
    let single: Vec<Summary> = jobs().map(|job| summary(make_batch(source.clone(), quiet(), job).unwrap())).collect();
    assert_eq!((single.len(), single[7].0[0].len(), single[7].4), (8, 45, 7));
    assert_ne!(single[0].0[0], single[0].0[1], "views have their own streams");
    for (workers, prefetch) in [(1, 1), (2, 4), (8, 3), (0, 100)] {
        assert_eq!(drain(Loader::start(source.clone(), quiet(), options(workers, prefetch), jobs())).unwrap(), single);
    }
}

#[test]
fn a_broken_image_is_replaced_by_the_next_readable_one() {
    let batch = make_batch(plain(&[20, 21, 49]), quiet(), job(0, &[5, 20, 49])).unwrap();
    assert_eq!(batch.index, [5, 22, 0], "after the last image comes the first");
    assert_eq!(batch.labels, [Some(1005), Some(1022), Some(1000)]);
    let broken: Vec<_> = batch.broken.iter().map(|one| (one.index, one.replaced_by, one.reason.as_str())).collect();
    assert_eq!(broken, [(20, 22, "plain 20 is broken"), (21, 22, "plain 21 is broken"), (49, 0, "plain 49 is broken")]);
    let replaced: Vec<_> = batch.broken.iter().map(|one| batch.index[one.slot]).collect();
    assert_eq!(replaced, [22, 22, 0], "the place in the batch, whose image is the replacement");
    assert!((22..29).contains(&batch.views[1][45]), "the pixels are those of image 22");
    let all: Vec<usize> = (0..50).collect();
    let error = make_batch(plain(&all), quiet(), job(0, &[3])).unwrap_err();
    assert!(error.message().contains("50 images in a row cannot be read, from image 3 on"), "{error}");
}

#[test]
fn the_run_stops_where_the_share_of_broken_images_is_exceeded() {
    for workers in [1, 8] {
        // A share of 0.1 of 50 allows five distinct ones; the sixth is in the fourth batch.
        let broken = [1, 2, 8, 9, 15, 22, 30];
        let mut loader = Loader::start(plain(&broken), quiet(), options(workers, 4), jobs());
        for _ in 0..3 {
            loader.next().unwrap().unwrap();
        }
        assert_eq!(loader.broken(), 5);
        let error = loader.next().unwrap().unwrap_err().to_string();
        assert!(error.contains("6 of 50 images cannot be read, more than the 10 % allowed\n  plain 1 is broken"), "{error}");
        assert!(error.contains("`data.max_broken`"), "{error}");
        assert!(loader.next().is_none());
    }
    // The same image again is not counted twice.
    let again = (0..20).map(|step| job(step, &[1, 2, 3]));
    assert_eq!(drain(Loader::start(plain(&[1, 2, 3]), quiet(), options(2, 2), again)).unwrap().len(), 20);
}

#[test]
fn no_more_batches_are_begun_than_asked_for() {
    for prefetch in [1, 3] {
        let drawn = Arc::new(AtomicUsize::new(0));
        let counter = drawn.clone();
        let counted = jobs().inspect(move |_| {
            counter.fetch_add(1, SeqCst);
        });
        let mut loader = Loader::start(plain(&[]), quiet(), options(4, prefetch), counted);
        for delivered in 0..5 {
            let deadline = Instant::now() + Duration::from_secs(20);
            while drawn.load(SeqCst) < delivered + prefetch && Instant::now() < deadline {
                std::thread::yield_now();
            }
            // Long enough for idle workers to overstep the bound if they would.
            std::thread::sleep(Duration::from_millis(20));
            assert_eq!(drawn.load(SeqCst), delivered + prefetch);
            loader.next().unwrap().unwrap();
        }
    }
}

#[test]
fn a_slow_image_does_not_hold_up_the_others() {
    let done = Arc::new(AtomicUsize::new(0));
    let seen = done.clone();
    let transform = Noise(move |value| {
        let deadline = Instant::now() + Duration::from_secs(20);
        // Image 0 waits for its neighbours and for the next batch.
        while value == 0 && done.load(SeqCst) < 20 && Instant::now() < deadline {
            std::thread::yield_now();
        }
        done.fetch_add(1, SeqCst);
    });
    let mut loader = Loader::start(plain(&[]), Arc::new(transform), options(2, 2), jobs());
    let start = Instant::now();
    assert_eq!(loader.next().unwrap().unwrap().payload, 0);
    assert!(start.elapsed() < Duration::from_secs(20) && seen.load(SeqCst) >= 20);
    assert!(loader.waited() > Duration::ZERO && loader.busy().augment > Duration::ZERO);
}

#[test]
fn a_panic_becomes_an_error_at_its_batch() {
    let source = plain(&[]);
    let transform = Noise(|value| assert!(value != 16, "no good"));
    let mut loader = Loader::start(source.clone(), Arc::new(transform), options(3, 4), jobs());
    assert_eq!(loader.next().unwrap().unwrap().payload, 0);
    assert_eq!(loader.next().unwrap().unwrap().payload, 1);
    let error = loader.next().unwrap().unwrap_err();
    assert!(error.message().contains("panicked at image 16: no good"), "{error}");
    assert!(loader.next().is_none());

    let broken_jobs = jobs().inspect(|job| assert!(job.payload != 2, "no plan"));
    let mut loader = Loader::start(source.clone(), quiet(), options(3, 4), broken_jobs);
    assert_eq!((0..2).map(|_| loader.next().unwrap().unwrap().payload).collect::<Vec<_>>(), [0, 1]);
    assert!(loader.next().unwrap().unwrap_err().message().contains("while drawing a batch: no plan"));

    let uneven = std::iter::once(Job { items: vec![job(0, &[1]).items.remove(0), Item { index: 2, streams: vec![] }], payload: 0 });
    let mut loader = Loader::start(source.clone(), quiet(), options(2, 1), uneven);
    assert!(loader.next().unwrap().unwrap_err().message().contains("different numbers of views"));
    let beyond = Loader::start(source, quiet(), options(2, 1), std::iter::once(job(0, &[50])));
    assert!(drain(beyond).unwrap_err().message().contains("image 50 was asked for, but there are 50"));
}

#[test]
fn dropping_a_loader_joins_its_threads() {
    let source = plain(&[]);
    let endless = (0..).map(|step| job(step, &[1, 2, 3]));
    let mut loader = Loader::start(source.clone(), quiet(), options(4, 2), endless);
    loader.next().unwrap().unwrap();
    let start = Instant::now();
    drop(loader);
    assert_eq!(Arc::strong_count(&source), 1, "no thread holds the source");
    assert!(start.elapsed() < Duration::from_secs(5));
    drop(Loader::start(source.clone(), quiet(), options(4, 2), std::iter::empty::<Job<usize>>()));
    assert_eq!(Arc::strong_count(&source), 1);
}

#[test]
fn an_empty_batch_and_no_batch_are_fine() {
    let all =
        drain(Loader::start(plain(&[]), quiet(), options(2, 2), [job(0, &[]), job(1, &[3]), job(2, &[])].into_iter())).unwrap();
    assert_eq!(all.iter().map(|batch| (batch.4, batch.1.len())).collect::<Vec<_>>(), [(0, 0), (1, 1), (2, 0)]);
    assert_eq!(drain(Loader::start(plain(&[]), quiet(), options(2, 2), std::iter::empty())).unwrap(), []);
}

#[test]
fn recycled_buffers_are_used_and_cleanly_overwritten() {
    let mut loader = Loader::start(plain(&[]), quiet(), options(2, 1), jobs());
    let first = loader.next().unwrap().unwrap();
    loader.recycle(vec![vec![0xAA; 1 << 20], vec![0xAA; 1 << 20]]);
    let rest: Vec<Batch<usize>> = std::iter::from_fn(|| loader.next()).map(|batch| batch.unwrap()).collect();
    let reused = rest.iter().filter(|batch| batch.views.iter().any(|view| view.capacity() >= 1 << 20)).count();
    assert!(reused >= 1, "a batch after the second takes the buffers");
    let fresh: Vec<Summary> = jobs().map(|job| summary(make_batch(plain(&[]), quiet(), job).unwrap())).collect();
    assert_eq!(std::iter::once(first).chain(rest).map(summary).collect::<Vec<_>>(), fresh);
}

/// An image is read once, whatever the number of its views, and each view has its own size, stream and place in its own buffer.
#[test]
fn views_of_several_sizes_come_from_one_reading() {
    let jobs = || (0..8).map(|step| job_of(3, step, &(step as u32 * 6..step as u32 * 6 + 6).collect::<Vec<u32>>()));
    let single: Vec<Summary> = jobs().map(|job| summary(make_batch(plain(&[9]), Arc::new(Crops), job).unwrap())).collect();
    for (step, (views, index, ..)) in single.iter().enumerate() {
        assert_eq!(views.iter().map(Vec::len).collect::<Vec<_>>(), CROPS.map(|(height, width)| 6 * 3 * height * width));
        for (view, buffer) in views.iter().enumerate() {
            let bytes = buffer.len() / 6;
            for (slot, made) in buffer.chunks(bytes).enumerate() {
                // A broken image's replacement is drawn from the stream of the place.
                let mut stream = Stream::new(1, Purpose::View, &[0, (6 * step + slot) as u64, view as u64]);
                let want: Vec<u8> = (0..bytes).map(|_| index[slot] as u8 + 10 * view as u8 + stream.below(7) as u8).collect();
                assert_eq!(made, want, "step {step}, image {slot}, view {view}");
            }
        }
    }
    let source = plain(&[9]);
    for (workers, prefetch) in [(1, 1), (3, 4)] {
        source.read.store(0, SeqCst);
        let mut loader = Loader::start(source.clone(), Arc::new(Crops), options(workers, prefetch), jobs());
        let mut got = Vec::new();
        while let Some(batch) = loader.next() {
            let batch = batch.unwrap();
            // Buffers come back with another batch's bytes in them.
            loader.recycle(batch.views.clone());
            got.push(summary(batch));
        }
        assert_eq!(got, single, "{workers} workers");
        assert_eq!(source.read.load(SeqCst), 48 + 1, "48 images, and one in place of the broken one");
    }
}

/// Only the buffer of a view is used for it again: a small one would have to grow, a large one would hold memory for nothing.
#[test]
fn recycled_buffers_stay_with_their_view() {
    let jobs = (0..4).map(|step| job_of(3, step, &[1, 2]));
    let mut loader = Loader::start(plain(&[]), Arc::new(Crops), options(1, 1), jobs);
    loader.next().unwrap().unwrap();
    loader.recycle(Vec::from([1 << 16, 1 << 17, 1 << 18].map(Vec::with_capacity)));
    let batches: Vec<Batch<usize>> = std::iter::from_fn(|| loader.next()).map(|batch| batch.unwrap()).collect();
    let reused = batches.iter().find(|batch| batch.views[0].capacity() >= 1 << 16).expect("a later batch takes the buffers");
    let capacities: Vec<usize> = reused.views.iter().map(Vec::capacity).collect();
    assert_eq!(capacities, [1 << 16, 1 << 17, 1 << 18]);
}

#[test]
fn a_view_that_the_transform_does_not_have_is_an_error() {
    let mut loader = Loader::start(plain(&[]), Arc::new(Crops), options(2, 2), std::iter::once(job_of(4, 0, &[1])));
    let error = loader.next().unwrap().unwrap_err();
    assert!(error.message().contains("panicked while drawing a batch"), "{error}");
    assert!(loader.next().is_none());
}
