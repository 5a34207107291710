//! Writing checkpoints on a thread of its own, from a copy in the host's memory: training goes on meanwhile.

use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::Instant;

use super::{Checkpoint, Keep, store};
use crate::error::{Error, Result};

/// A checkpoint that is safely on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Saved {
    /// Completed steps.
    pub step: u64,
    /// Its folder.
    pub folder: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// How long it took to write, sync and verify, beside the training.
    pub seconds: f64,
    /// What could not be tidied up afterwards.
    pub untidy: Option<String>,
}

/// A thread that writes one checkpoint at a time.
pub struct Saver {
    jobs: Option<Sender<(Checkpoint, Keep)>>,
    results: Receiver<(u64, Result<Saved>)>,
    thread: Option<JoinHandle<()>>,
    /// Whether a checkpoint is being written.
    busy: bool,
}

impl Saver {
    /// For the run whose newest checkpoint goes to `folder`.
    pub fn start(folder: PathBuf) -> Self {
        let (jobs, inbox) = mpsc::channel::<(Checkpoint, Keep)>();
        let (outbox, results) = mpsc::channel();
        let work = move || {
            for (checkpoint, keep) in inbox {
                let step = checkpoint.state.step;
                let start = Instant::now();
                let saved = store::write(&checkpoint, &folder).map(|bytes| {
                    drop(checkpoint);
                    let seconds = start.elapsed().as_secs_f64();
                    let untidy = store::prune(&folder, &keep).err().map(|error| error.in_a_line());
                    Saved { step, folder: folder.clone(), bytes, seconds, untidy }
                });
                if outbox.send((step, saved)).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("checkpoint".into()).spawn(work).expect("a thread can be started");
        Self { jobs: Some(jobs), results, thread: Some(thread), busy: false }
    }

    /// Hands over a checkpoint. There must be none on the way: [`Saver::wait`] first.
    pub fn save(&mut self, checkpoint: Checkpoint, keep: Keep) {
        assert!(!self.busy, "one checkpoint at a time");
        let jobs = self.jobs.as_ref().expect("the thread is there until the end");
        self.busy = jobs.send((checkpoint, keep)).is_ok();
    }

    /// What became of the checkpoint on the way, if it is done.
    pub fn poll(&mut self) -> Option<(u64, Result<Saved>)> {
        let done = self.results.try_recv().ok()?;
        self.busy = false;
        Some(done)
    }

    /// The same, waiting for it; `None` if none is on the way.
    pub fn wait(&mut self) -> Option<(u64, Result<Saved>)> {
        if !std::mem::take(&mut self.busy) {
            return None;
        }
        let lost = |_| (0, Err(Error::run("the thread that writes checkpoints is gone")));
        Some(self.results.recv().unwrap_or_else(lost))
    }
}

impl Drop for Saver {
    /// What is being written is written to its end.
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
