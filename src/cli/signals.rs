//! Signals: what a person at the keyboard, a scheduler or a lost terminal asks for.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicI32};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::train::Requests;

/// The same signal again within this time is one signal: launchers deliver it to the process and to its group.
const SAME: Duration = Duration::from_millis(200);
/// A second signal within this time of the first one means at once.
const AGAIN: Duration = Duration::from_secs(2);
/// Ctrl-C.
const SIGINT: i32 = 2;

/// What the signals asked for.
static REQUESTS: Requests = Requests::new();
/// After what the work will end, once the program listens.
static UNIT: Mutex<Option<&'static str>> = Mutex::new(None);
/// The signal that asked for the end.
static SIGNAL: AtomicI32 = AtomicI32::new(SIGINT);

/// Exit status of work that ended early on a signal, as shells report it: 130 after Ctrl-C, 143 after SIGTERM.
pub fn status() -> u8 {
    128 + SIGNAL.load(SeqCst) as u8
}

/// Set by the first Ctrl-C, SIGTERM or SIGHUP, so that the work ends after `unit`.
///
/// # Errors
/// The system does not let the program listen.
pub fn stop_flag(unit: &'static str) -> Result<&'static AtomicBool> {
    Ok(&requests(unit, false)?.stop)
}

/// The same, with SIGUSR1 asking for a checkpoint.
///
/// # Errors
/// As [`stop_flag`].
pub fn run_requests(unit: &'static str) -> Result<&'static Requests> {
    requests(unit, true)
}

fn requests(unit: &'static str, saves: bool) -> Result<&'static Requests> {
    let mut told = UNIT.lock().unwrap_or_else(PoisonError::into_inner);
    if told.replace(unit).is_none() {
        listen(saves, heard()).map_err(|error| Error::run(format!("cannot listen for signals: {error}")))?;
    }
    Ok(&REQUESTS)
}

/// What a signal does. `None` asks for a checkpoint.
fn heard() -> impl FnMut(Option<i32>) + Send + 'static {
    let mut before = Counter::default();
    move |signal| {
        let Some(signal) = signal else {
            REQUESTS.save.store(true, SeqCst);
            return;
        };
        match before.next(signal, Instant::now()) {
            Next::Stop => {
                SIGNAL.store(signal, SeqCst);
                REQUESTS.stop.store(true, SeqCst);
                let unit = UNIT.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or("this");
                eprintln!("\nstopping after {unit} (twice within {} s: at once, without saving)", AGAIN.as_secs());
            }
            Next::Ignore => {}
            Next::Exit => std::process::exit(128 + signal),
        }
    }
}

/// What to do on a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Stop,
    Ignore,
    Exit,
}

/// The signals so far.
#[derive(Debug, Default)]
struct Counter {
    last: Option<(i32, Instant)>,
}

impl Counter {
    fn next(&mut self, signal: i32, now: Instant) -> Next {
        let before = self.last;
        let apart = before.map(|(_, at)| now.duration_since(at));
        match (before, apart) {
            (Some((same, _)), Some(apart)) if same == signal && apart < SAME => Next::Ignore,
            (_, Some(apart)) if apart < AGAIN => Next::Exit,
            _ => {
                self.last = Some((signal, now));
                Next::Stop
            }
        }
    }
}

#[cfg(unix)]
fn listen(saves: bool, mut on: impl FnMut(Option<i32>) + Send + 'static) -> std::io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
    let ends = [SIGINT, SIGTERM, SIGHUP];
    let mut signals = signal_hook::iterator::Signals::new(ends.iter().copied().chain(saves.then_some(SIGUSR1)))?;
    let work = move || signals.forever().for_each(|signal| on((signal != SIGUSR1).then_some(signal)));
    std::thread::Builder::new().name("signals".into()).spawn(work).map(drop)
}

#[cfg(not(unix))]
fn listen(_: bool, mut on: impl FnMut(Option<i32>) + Send + 'static) -> std::io::Result<()> {
    ctrlc::set_handler(move || on(Some(SIGINT))).map_err(std::io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_signal_delivered_twice_is_one_and_two_are_at_once() {
        let start = Instant::now();
        let of = |signals: &[(i32, u64)]| {
            let mut counter = Counter::default();
            signals.iter().map(|&(signal, ms)| counter.next(signal, start + Duration::from_millis(ms))).collect::<Vec<_>>()
        };
        use Next::{Exit, Ignore, Stop};
        assert_eq!(of(&[(2, 0), (2, 199), (2, 200)]), [Stop, Ignore, Exit]);
        assert_eq!(of(&[(15, 0), (2, 10)]), [Stop, Exit], "two signals are two");
        assert_eq!(of(&[(2, 0), (2, 1_999)]), [Stop, Exit]);
        assert_eq!(of(&[(2, 0), (2, 2_000), (2, 2_100), (2, 2_300)]), [Stop, Stop, Ignore, Exit], "later it is said again");
    }
}
