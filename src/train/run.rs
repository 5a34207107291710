//! The loop: it knows no method.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use super::checkpoint::{Checkpoint, State};
use super::events::{Event, Outcome as EndKind, Sink, Sinks};
use super::finish::{Measured, Wanted};
use super::identity::Identity;
use super::jobs::{Length, StepPlan, jobs};
use super::meter::{Meter, Totals};
use super::open::upload;
use super::preview;
use super::requests::Requests;
use super::run_dir::RunDir;
use super::save::Saving;
use super::step::{Read, compute};
use super::summary::Summary;
use super::upload::Upload;
use crate::config::RunConfig;
use crate::data::{Batch, Loader, Source};
use crate::device::Opened;
use crate::error::{Error, Kind, Result};
use crate::kernel::Op;
use crate::method::Method;
use crate::optim::Optimizer;

/// Lines of a panic's message that are shown below the first.
const PANIC_LINES: usize = 5;

/// How a run ended, when nothing failed.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// All steps are done.
    Finished(Box<Summary>),
    /// It was asked to stop after this step; the checkpoint holds the state.
    Interrupted(u64),
}

/// Everything a run needs, opened.
pub struct Session {
    /// The resolved config.
    pub config: RunConfig,
    /// The device.
    pub device: Opened,
    /// Training images.
    pub train: Arc<dyn Source>,
    /// Test images for the evaluation, if there are any.
    pub test: Option<Arc<dyn Source>>,
    /// The run's folder.
    pub dir: RunDir,
    /// Who listens.
    pub sinks: Sinks,
    /// What the run is of.
    pub identity: Identity,
    /// What is asked of the run while it trains.
    pub requests: &'static Requests,
    /// What was said already.
    pub said: Said,
}

/// What a run says once.
#[derive(Debug, Default)]
pub struct Said {
    /// That the metrics file is behind, until it has caught up.
    behind: bool,
    /// Warnings that every measurement would repeat.
    warnings: BTreeSet<String>,
}

/// What the loop carries from step to step.
pub(super) struct Running {
    pub method: Box<dyn Method>,
    pub optimizer: Optimizer,
    pub state: State,
    pub meter: Meter,
    pub saving: Saving,
    /// Steps completed before this start.
    pub first: u64,
    pub last_loss: f64,
    /// What labels last said of the encoder in this start, and the step it belongs to.
    pub measured: Option<(u64, Measured)>,
}

impl Session {
    /// Trains from `checkpoint`, or from the start, until the schedule ends or the end is requested. Trouble with the disk on the way does not
    /// end it.
    ///
    /// # Errors
    /// A loss or gradient that is not finite (before it can touch the weights), weights beyond all bounds (before they are saved), a failing
    /// device or data set, a last checkpoint that cannot be written. The checkpoints before stay valid.
    pub fn run(mut self, checkpoint: Option<Checkpoint>) -> Result<Ended> {
        let mut running = None;
        // Devices report many of their failures by a panic on this thread or one of their own.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let running = running.insert(self.start(checkpoint)?);
            self.train(running)
        }));
        let failed = matches!(outcome, Err(_) | Ok(Err(_)));
        if failed {
            if let Some(run) = &mut running {
                // What is on its way to the disk is waited for.
                self.settle(run);
            }
            let place = running.as_ref().map_or((0, 0, f64::NAN, Totals::default()), Running::place);
            self.end(place, EndKind::Failed);
        }
        outcome.unwrap_or_else(|panic| {
            // Its parts may be in the middle of anything: it is not to be touched again, not even to be dropped.
            std::mem::forget(running);
            Err(broken_off(&*panic))
        })
    }

    fn train(&mut self, running: &mut Running) -> Result<Ended> {
        let length = Length::of(&self.config, self.train.len())?;
        let upload = upload(&self.config, &self.device);
        self.announce(running, length);
        if running.state.step == 0 && running.state.untrained.is_none() {
            match self.measure(&running.method.encoder(), Wanted::KNN) {
                Err(error) if error.kind() == Kind::Interrupted => return self.interrupted(running),
                untrained => running.state.untrained = untrained?.knn,
            }
        }
        if running.state.watched.is_some_and(|step| step != running.state.step) {
            // The last start was ended while it looked at the encoder of this step.
            match self.watch(running, length) {
                Err(error) if error.kind() == Kind::Interrupted => return self.interrupted(running),
                watched => watched?,
            }
        }
        if running.state.step == length.steps {
            // Everything was trained and saved, but the end was not reached: what is left is to measure.
            return self.finish(running);
        }

        let transform = Arc::new(self.config.view_recipes());
        let jobs = jobs(&self.config, self.train.len(), length, running.first);
        let mut loader = Loader::start(self.train.clone(), transform, self.config.data.loader_options(), jobs);
        running.meter.resume(Instant::now());
        while running.state.step < length.steps {
            let Some(batch) = loader.next() else {
                return Err(Error::run(format!("the loader ended at step {}", running.state.step)));
            };
            let batch = batch?;
            if running.state.step == running.first {
                let drawn = preview::save(&self.dir.preview(), self.config.log.preview, self.train.as_ref(), &batch, &upload);
                if let Err(error) = drawn {
                    self.warn(format!("no preview was drawn: {}", error.in_a_line()));
                }
            }
            self.step(running, &upload, &batch, length, loader.waited().as_secs_f64())?;
            loader.recycle(batch.views);
            match self.watch(running, length) {
                // The request is still there, and is answered below.
                Err(error) if error.kind() == Kind::Interrupted => {}
                watched => watched?,
            }
            self.hear(running);
            let last = running.state.step == length.steps;
            if last || self.requests.stops() {
                drop(loader);
                self.save_last(running, length)?;
                return if last { self.finish(running) } else { self.interrupted(running) };
            }
            if self.checkpoint_due(running, length) || running.saving.retries() || self.requests.take_save() {
                self.save(running, length)?;
            }
        }
        unreachable!("the last step ends the loop")
    }

    /// Tells all listeners. A metrics file that cannot be written keeps what it was told and catches up later; a run is not lost for it.
    pub(super) fn tell(&mut self, event: &Event) {
        match self.sinks.on(event) {
            Ok(()) => self.said.behind = false,
            Err(error) if !std::mem::replace(&mut self.said.behind, true) => {
                let message = format!("the metrics wait for the disk: {}", error.in_a_line());
                // It fails again where it just failed, and is heard everywhere else.
                let _ = self.sinks.on(&Event::Warning { message });
            }
            Err(_) => {}
        }
    }

    pub(super) fn warn(&mut self, message: String) {
        self.tell(&Event::Warning { message });
    }

    /// A warning that one start gives once, however often its reason comes up.
    pub(super) fn warn_once(&mut self, message: String) {
        if self.said.warnings.insert(message.clone()) {
            self.warn(message);
        }
    }

    /// The step itself, then its events.
    fn step(&mut self, run: &mut Running, upload: &Upload, batch: &Batch<StepPlan>, length: Length, waited_s: f64) -> Result<()> {
        self.tell_broken(run, batch);
        let StepPlan { epoch, step, own, .. } = batch.payload;
        let rates = self.config.schedule.rates(&self.config.optim, step, length.per_epoch, length.steps);
        let free = &mut |_: &'static str| Ok(());
        let method = run.method.as_mut();
        let computed = compute(method, upload.inputs(batch), self.config.shards(), free)?;
        let read = computed.read(self.device.info.kernels.path(Op::Update))?;
        read.refuse_non_finite(step + 1)?;
        computed.apply(method, &mut run.optimizer, rates, self.config.optim.clip(read.gradient_norm), free)?;

        run.meter.step(own as u64, waited_s, Instant::now());
        run.last_loss = read.loss;
        run.state.step = step + 1;
        run.state.epoch_sums.add(read.loss, &read.signals);
        self.report(run, read, epoch, rates.scheduled, length);
        Ok(())
    }

    /// Counts and names each unreadable image once, however often it comes up.
    fn tell_broken(&mut self, run: &mut Running, batch: &Batch<StepPlan>) {
        for broken in &batch.broken {
            run.state.broken += 1;
            if let Err(place) = run.state.broken_images.binary_search(&broken.index) {
                run.state.broken_images.insert(place, broken.index);
                self.tell(&Event::Broken {
                    name: broken.name.clone(),
                    reason: broken.reason.clone(),
                    replaced_by: self.train.name(broken.replaced_by as usize),
                });
            }
        }
    }

    fn report(&mut self, run: &mut Running, read: Read, epoch: u64, lr: f64, length: Length) {
        let (step, start) = (run.state.step, run.meter.start());
        self.tell(&Event::Step {
            step,
            epoch: epoch + 1,
            lr,
            loss: read.loss,
            parts: read.parts,
            gradient_norm: read.gradient_norm,
            signals: read.signals,
            images_per_s: start.images_per_s(),
            data_wait: start.data_wait(),
            eta_s: start.seconds / (step - run.first) as f64 * (length.steps - step) as f64,
        });
        if step.is_multiple_of(length.per_epoch) || step == length.steps {
            let (took, (loss, signals)) = (run.meter.end_epoch(), std::mem::take(&mut run.state.epoch_sums).means());
            self.tell(&Event::Epoch {
                epoch: epoch + 1,
                step,
                loss,
                signals,
                wall_s: took.seconds,
                images_per_s: took.images_per_s(),
                data_wait: took.data_wait(),
                lr,
            });
            run.state.epoch = epoch + u64::from(step.is_multiple_of(length.per_epoch));
        }
    }
}

/// A panic as an error.
fn broken_off(panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    let text = text.unwrap_or("no reason was given").trim();
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let error = Error::run(format!("the device or a thread of the program failed: {}", lines.next().unwrap_or_default()));
    let error = lines.take(PANIC_LINES).fold(error, |error, line| error.detail(line.trim().to_owned()));
    error
        .hint("if memory ran out: a smaller `data.micro_batch` or `data.batch` in a new run (--init-from RUN), or another --device")
        .hint("the checkpoints are whole: --resume auto goes on from the newest")
        .hint("RUST_BACKTRACE=1 shows where it happened")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_with_hints() {
        let caught = catch_unwind(|| panic!("out of\n  memory {}", 7)).unwrap_err();
        let error = broken_off(&*caught);
        assert!(error.message().ends_with("failed: out of") && error.details() == ["memory 7"], "{error}");
        assert!(error.hints()[0].contains("data.micro_batch") && error.exit_code() == 1, "{error}");
    }
}
