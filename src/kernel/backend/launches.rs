//! What a piece of work launches on a CubeCL device: how often each kernel, and how long it ran.

/// The launches of one kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct Launches {
    /// Its name, without modules.
    pub kernel: String,
    /// How often it was launched.
    pub count: usize,
    /// Seconds that its launches took on the device, where times were asked for.
    pub seconds: f64,
}

/// Does some work, and tells what this thread launched meanwhile, by the names of the kernels; with `timed` also for how long. Timed launches
/// take a round trip to the device's server each, so that the work as a whole is slower than without. A build without CubeCL launches nothing.
///
/// One piece of work is watched at a time in a process: a second one takes over until it is done.
pub fn watched<T>(timed: bool, work: impl FnOnce() -> T) -> (T, Vec<Launches>) {
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    return watch::watched(timed, work);
    #[cfg(not(any(feature = "wgpu", feature = "cuda")))]
    {
        let _ = timed;
        (work(), Vec::new())
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod watch {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex, PoisonError};
    use std::thread::ThreadId;

    use cubecl::logging::{Duration, LaunchObservation, LaunchObserver, ProfileDuration, TimingMethod, TimingRequest};

    use super::Launches;

    /// What one thread launches; others, tests beside it for one, are not counted.
    struct Watch {
        thread: ThreadId,
        timing: TimingRequest,
        seen: Mutex<Seen>,
    }

    #[derive(Default)]
    struct Seen {
        counts: BTreeMap<&'static str, usize>,
        profiles: Vec<(&'static str, ProfileDuration)>,
        seconds: BTreeMap<&'static str, f64>,
    }

    impl Watch {
        fn note(&self, with: impl FnOnce(&mut Seen)) {
            if std::thread::current().id() == self.thread {
                with(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
            }
        }
    }

    impl LaunchObserver for Watch {
        fn launched(&self, kernel: &'static str) {
            self.note(|seen| *seen.counts.entry(kernel).or_default() += 1);
        }

        fn timing(&self) -> TimingRequest {
            self.timing
        }

        fn profiled(&self, kernel: &'static str, profile: ProfileDuration) {
            self.note(|seen| seen.profiles.push((kernel, profile)));
        }

        fn timed(&self, kernel: &'static str, duration: Duration, _: TimingMethod) {
            self.note(|seen| *seen.seconds.entry(kernel).or_default() += duration.as_secs_f64());
        }
    }

    /// See [`super::watched`].
    pub fn watched<T>(timed: bool, work: impl FnOnce() -> T) -> (T, Vec<Launches>) {
        let timing = if timed { TimingRequest::Deferred } else { TimingRequest::None };
        let watch = Arc::new(Watch { thread: std::thread::current().id(), timing, seen: Mutex::default() });
        let observation = LaunchObservation::new(watch.clone());
        let done = work();
        drop(observation);
        let mut seen = std::mem::take(&mut *watch.seen.lock().unwrap_or_else(PoisonError::into_inner));
        for (kernel, profile) in seen.profiles {
            let ticks = cubecl::future::block_on(profile.resolve());
            *seen.seconds.entry(kernel).or_default() += ticks.map_or(0.0, |ticks| ticks.duration().as_secs_f64());
        }
        let launches = seen.counts.into_iter().map(|(kernel, count)| Launches {
            kernel: short(kernel),
            count,
            seconds: seen.seconds.get(kernel).copied().unwrap_or(0.0),
        });
        (done, launches.collect())
    }

    /// The type's own name, without its modules and arguments.
    fn short(kernel: &str) -> String {
        let plain = kernel.split('<').next().unwrap_or(kernel);
        let mut parts: Vec<&str> = plain.split("::").collect();
        let last = parts.pop().unwrap_or(plain);
        // Kernels made by the macro lie in a module of their own name.
        parts.pop().map_or_else(|| last.to_owned(), |module| format!("{module}::{last}"))
    }
}
