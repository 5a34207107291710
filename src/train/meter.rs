//! The clocks of a run: images, seconds of training and seconds spent waiting for data, of the whole run, of this start and of the epoch.

use std::time::Instant;

use serde::{Deserialize, Serialize};

/// What was done, and what it took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Source images trained on.
    pub images: u64,
    /// Seconds of training; measuring and pauses between two starts do not count.
    pub seconds: f64,
    /// Seconds of these spent waiting for data.
    pub waited_s: f64,
}

impl Totals {
    /// Source images per second.
    pub fn images_per_s(&self) -> f64 {
        self.images as f64 / self.seconds
    }

    /// Share of the time spent waiting for data, 0 to 1.
    pub fn data_wait(&self) -> f64 {
        self.waited_s / self.seconds
    }

    fn add(&mut self, images: u64, seconds: f64, waited_s: f64) {
        self.images += images;
        self.seconds += seconds;
        self.waited_s += waited_s;
    }
}

/// Counts from what a checkpoint says on. It reads no clock itself: every call is told the time.
#[derive(Debug, Clone)]
pub struct Meter {
    run: Totals,
    epoch: Totals,
    start: Totals,
    /// Up to when everything is counted.
    mark: Instant,
    /// What the loader had waited by then, in seconds.
    waited_s: f64,
}

impl Meter {
    /// Goes on from earlier starts: `run` and the unfinished `epoch`, both zero in a new run.
    pub fn new(run: Totals, epoch: Totals, now: Instant) -> Self {
        Self { run, epoch, start: Totals::default(), mark: now, waited_s: 0.0 }
    }

    /// Training begins or goes on: what passed until now was none.
    pub fn resume(&mut self, now: Instant) {
        self.mark = now;
    }

    /// A step of `images` is done; the loader has waited for `waited_s` seconds since it was started.
    pub fn step(&mut self, images: u64, waited_s: f64, now: Instant) {
        let (seconds, waited) = (now.duration_since(self.mark).as_secs_f64(), waited_s - self.waited_s);
        (self.mark, self.waited_s) = (now, waited_s);
        [&mut self.run, &mut self.epoch, &mut self.start].into_iter().for_each(|totals| totals.add(images, seconds, waited));
    }

    /// The epoch that ends here; the next one begins.
    pub fn end_epoch(&mut self) -> Totals {
        std::mem::take(&mut self.epoch)
    }

    /// Over all starts of the run.
    pub fn run(&self) -> Totals {
        self.run
    }

    /// The unfinished epoch, over all starts.
    pub fn epoch(&self) -> Totals {
        self.epoch
    }

    /// Of this start.
    pub fn start(&self) -> Totals {
        self.start
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn steps_count_and_pauses_do_not() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let before = Totals { images: 100, seconds: 50.0, waited_s: 5.0 };
        let epoch = Totals { images: 10, seconds: 4.0, waited_s: 1.0 };
        let mut meter = Meter::new(before, epoch, at(0));
        // Opening took ten seconds, measuring between the two steps a hundred.
        meter.resume(at(10));
        meter.step(20, 0.5, at(12));
        meter.resume(at(112));
        meter.step(30, 1.5, at(116));
        assert_eq!(meter.start(), Totals { images: 50, seconds: 6.0, waited_s: 1.5 });
        assert_eq!(meter.run(), Totals { images: 150, seconds: 56.0, waited_s: 6.5 });
        assert_eq!(meter.end_epoch(), Totals { images: 60, seconds: 10.0, waited_s: 2.5 });
        assert_eq!(meter.epoch(), Totals::default());
        meter.step(7, 1.5, at(117));
        assert_eq!(meter.epoch(), Totals { images: 7, seconds: 1.0, waited_s: 0.0 });
        assert_eq!((meter.start().images_per_s(), meter.epoch().data_wait()), (57.0 / 7.0, 0.0));
    }
}
