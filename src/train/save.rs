//! Saving a run while it trains, so that no trouble with the disk ends it and nothing broken is ever kept.

use std::time::{Duration, Instant};

use super::checkpoint::{Checkpoint, Keep, Saved, Saver};
use super::events::{Event, Sink};
use super::jobs::Length;
use super::run::{Running, Session};
use crate::error::{Error, Result};
use crate::model::StateDict;
use crate::model::tensors::{SANE, first_bad};

/// After a checkpoint that could not be written, the pause before the next attempt; it doubles up to [`LONGEST`].
const PAUSE: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(300);
/// Attempts to write the checkpoint at the end, and the pause between two.
const LAST_ATTEMPTS: usize = 3;
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// The run's checkpoints as the loop sees them.
pub(super) struct Saving {
    saver: Saver,
    /// Steps of the last one that is safely on disk.
    pub saved: Option<u64>,
    /// When a failed one is tried again.
    again: Option<Instant>,
    pause: Duration,
    /// What went wrong with the last one, if it did.
    trouble: Option<Error>,
    /// How long training waited for the last one: for the one before it to be written, and for the copy.
    waited_s: f64,
}

impl Saving {
    pub fn new(folder: std::path::PathBuf, saved: Option<u64>) -> Self {
        Self { saver: Saver::start(folder), saved, again: None, pause: PAUSE, trouble: None, waited_s: 0.0 }
    }

    /// Whether a checkpoint that failed is to be tried again now.
    pub fn retries(&self) -> bool {
        self.again.is_some_and(|at| Instant::now() >= at)
    }
}

impl Session {
    /// Whether the schedule or the best result so far asks for a checkpoint after this step.
    pub(super) fn checkpoint_due(&self, run: &Running, length: Length) -> bool {
        let (every, step) = (&self.config.checkpoint, run.state.step);
        let epoch = step / length.per_epoch;
        // Who asks for no checkpoint on the way gets none.
        let periodic = every.every_steps.is_some() || every.every_epochs.is_some();
        let best = periodic && every.keep.best && run.state.best.is_some_and(|best| best.step == Some(step));
        best || every.every_steps.is_some_and(|n| step.is_multiple_of(n))
            || every.every_epochs.is_some_and(|n| step.is_multiple_of(length.per_epoch) && epoch.is_multiple_of(n))
    }

    /// Copies the state and hands it to the thread that writes it. Trouble with the disk is said, and tried again later.
    ///
    /// # Errors
    /// The state is damaged: it is not saved.
    pub(super) fn save(&mut self, run: &mut Running, length: Length) -> Result<()> {
        let start = Instant::now();
        self.settle(run);
        let ready = self.restore_folder(run).and_then(|()| self.sinks.sync());
        if let Err(error) = ready {
            self.unsaved(run, run.state.step, &error);
            return Ok(());
        }
        (run.state.run, run.state.epoch_run) = (run.meter.run(), run.meter.epoch());
        run.state.wall_s = run.state.run.seconds;
        run.state.step_in_epoch = Some(run.state.step % length.per_epoch);
        run.state.last_loss = run.last_loss;
        let mut tensors = run.method.state();
        tensors.extend(run.optimizer.state());
        refuse_damaged(&tensors, run)?;
        let keep = &self.config.checkpoint.keep;
        let keep = Keep {
            last: keep.last,
            every_steps: keep.every_epochs.map(|n| n * length.per_epoch),
            best: run.state.best.and_then(|best| best.step).filter(|_| keep.best),
        };
        self.sinks.hold();
        run.saving.saver.save(Checkpoint { state: run.state.clone(), tensors }, keep);
        run.saving.again = None;
        run.saving.waited_s = start.elapsed().as_secs_f64();
        Ok(())
    }

    /// Hears of a checkpoint that was written meanwhile.
    pub(super) fn hear(&mut self, run: &mut Running) {
        if let Some(done) = run.saving.saver.poll() {
            self.saved(run, done);
        }
    }

    /// The checkpoint at the end of training: it is on disk when this returns.
    ///
    /// # Errors
    /// It could not be written, or the state is damaged.
    pub(super) fn save_last(&mut self, run: &mut Running, length: Length) -> Result<()> {
        for attempt in 0..LAST_ATTEMPTS {
            if attempt > 0 {
                std::thread::sleep(LAST_PAUSE);
            }
            self.save(run, length)?;
            self.settle(run);
            if run.saving.saved == Some(run.state.step) {
                return Ok(());
            }
        }
        let error = Error::input(format!("the checkpoint of the last step ({}) could not be written", run.state.step));
        let error = match run.saving.trouble.take() {
            Some(why) => why.hints().iter().fold(error.detail(why.message()), |error, hint| error.hint(hint)),
            None => error,
        };
        Err(error.hint(match run.saving.saved {
            Some(step) => format!("mend the disk and go on from step {step}: --out {} --resume auto", self.dir.path().display()),
            None => "mend the disk and start over".to_owned(),
        }))
    }

    /// Waits until what is on its way to the disk is there, or is not.
    pub(super) fn settle(&mut self, run: &mut Running) {
        if let Some(done) = run.saving.saver.wait() {
            self.saved(run, done);
        }
    }

    fn saved(&mut self, run: &mut Running, (step, result): (u64, Result<Saved>)) {
        match result {
            Err(error) => self.unsaved(run, step, &error),
            Ok(Saved { folder, bytes, seconds, untidy, .. }) => {
                run.saving.saved = Some(step);
                run.saving.pause = PAUSE;
                let path = folder.display().to_string();
                self.tell(&Event::Checkpoint { step, path, bytes, seconds, waited_s: run.saving.waited_s });
                if let Some(what) = untidy {
                    self.warn(format!("an old checkpoint could not be removed: {what}"));
                }
            }
        }
    }

    fn unsaved(&mut self, run: &mut Running, step: u64, error: &Error) {
        // Whoever holds events back has kept them; that the disk fails is said in a moment.
        let _ = self.sinks.release();
        run.saving.trouble = Some(error.clone());
        let last = run.saving.saved.map_or("there is none yet".to_owned(), |step| format!("the last good one is of step {step}"));
        let pause = run.saving.pause.as_secs();
        self.warn(format!(
            "the checkpoint of step {step} was not written ({}); {last}; the next attempt is in {pause} s",
            error.in_a_line()
        ));
        run.saving.again = Some(Instant::now() + run.saving.pause);
        run.saving.pause = (2 * run.saving.pause).min(LONGEST);
    }

    /// Makes the run's folder again if someone removed it.
    fn restore_folder(&mut self, run: &Running) -> Result<()> {
        if self.dir.restore()? {
            super::open::write_config(&self.dir, &self.config, &self.device)?;
            self.warn(format!(
                "the run's folder was gone at step {}: it is made again, without the metrics and checkpoints before",
                run.state.step
            ));
        }
        Ok(())
    }
}

/// Whatever is saved can be gone on from.
fn refuse_damaged(tensors: &StateDict, run: &Running) -> Result<()> {
    let Some((name, what)) = first_bad(tensors, SANE) else { return Ok(()) };
    let error = Error::run(format!("`{name}` is damaged after step {} ({what}); the state was not saved", run.state.step));
    Err(error.hint(match run.saving.saved {
        Some(step) => {
            format!("the checkpoint of step {step} is whole: resume from it with a lower optim.lr or a limit for the gradient (optim.clip_norm)")
        }
        None => "start over (--resume auto) with a lower optim.lr or a limit for the gradient (optim.clip_norm)".to_owned(),
    }))
}
