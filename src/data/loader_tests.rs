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
    fn apply(&self, image: &RgbImage, stream: &mut Stream, out: &mut [u8]) {
        (self.0)(image.pixels[0]);
        out.iter_mut().for_each(|byte| *byte = image.pixels[0].wrapping_add(stream.below(7) as u8));
    }
    fn size(&self) -> (usize, usize) {
        (3, 5)
    }
}

fn job(step: usize, indices: &[u32]) -> Job<usize> {
    let streams = |index: u32| (0..2).map(|view| Stream::new(1, Purpose::View, &[0, index.into(), view])).collect();
    Job { items: indices.iter().map(|&index| Item { index, streams: streams(index) }).collect(), payload: step }
}

/// Steps of seven images that walk through 50, the last with three.
fn jobs() -> impl Iterator<Item = Job<usize>> + Send + 'static {
    (0..8).map(|step| job(step, &(step as u32 * 7..50.min(step as u32 * 7 + 7)).collect::<Vec<u32>>()))
}

fn options(workers: usize, prefetch: usize) -> LoaderOptions {
    LoaderOptions { workers, prefetch, max_broken: 0.1 }
}

fn plain(broken: &[usize]) -> Arc<dyn Source> {
    Arc::new(Plain { len: 50, broken: broken.to_vec() })
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
