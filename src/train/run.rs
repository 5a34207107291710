//! The loop: it knows no method.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::checkpoint::{Checkpoint, State};
use super::events::{Event, Outcome as EndKind, Sink, Sinks};
use super::jobs::{Length, StepPlan, jobs};
use super::meter::Meter;
use super::preview;
use super::run_dir::RunDir;
use super::step::{Read, compute};
use super::summary::{Knn, Summary};
use super::upload::Upload;
use crate::config::RunConfig;
use crate::data::{Batch, Loader, Source};
use crate::device::Opened;
use crate::error::{Error, Result};
use crate::method::Method;
use crate::optim::Optimizer;

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
}

/// What the loop carries from step to step.
pub(super) struct Running {
    pub method: Box<dyn Method>,
    pub optimizer: Optimizer,
    pub state: State,
    pub meter: Meter,
    /// Steps completed before this start.
    pub first: u64,
    pub last_loss: f64,
    /// The last kNN result of this start and the step it belongs to.
    pub measured: Option<(u64, Knn)>,
}

impl Session {
    /// Trains from `checkpoint`, or from the start, until the schedule ends or `stop` is set.
    ///
    /// # Errors
    /// A loss or gradient that is not finite (before it can touch the weights), a failing device, disk or dataset. The last checkpoint stays
    /// valid.
    pub fn run(mut self, checkpoint: Option<Checkpoint>, stop: &AtomicBool) -> Result<Ended> {
        let mut running = self.start(checkpoint)?;
        let outcome = self.train(&mut running, stop);
        if outcome.is_err() {
            // The first error is the one to report; a sink that fails now has nothing to add.
            let _ = self.end(&running, EndKind::Failed);
        }
        outcome
    }

    fn train(&mut self, running: &mut Running, stop: &AtomicBool) -> Result<Ended> {
        let length = Length::of(&self.config, self.train.len())?;
        let upload = self.upload();
        upload.check(self.config.data.batch)?;
        self.check_memory()?;
        self.announce(running, length)?;
        if running.state.step == 0 {
            running.state.untrained = self.measure(&running.method.encoder())?;
        }

        let transform = Arc::new(self.config.views.recipe());
        let jobs = jobs(&self.config, self.train.len(), length, running.first);
        let mut loader = Loader::start(self.train.clone(), transform, self.config.data.loader_options(), jobs);
        running.meter.resume(Instant::now());
        while running.state.step < length.steps {
            let Some(batch) = loader.next() else {
                return Err(Error::run(format!("the loader ended at step {}", running.state.step)));
            };
            let batch = batch?;
            if running.state.step == running.first {
                preview::save(&self.dir.preview(), self.config.log.preview, self.train.as_ref(), &batch, &upload)?;
            }
            self.step(running, &upload, &batch, length, loader.waited().as_secs_f64())?;
            loader.recycle(batch.views);
            self.watch(running, length)?;
            let stopping = stop.load(Ordering::SeqCst) && running.state.step < length.steps;
            if stopping || self.checkpoint_due(running.state.step, length) {
                self.save(running)?;
            }
            if stopping {
                return self.interrupted(running);
            }
        }
        drop(loader);
        self.finish(running)
    }

    /// The step itself, then its events.
    fn step(&mut self, run: &mut Running, upload: &Upload, batch: &Batch<StepPlan>, length: Length, waited_s: f64) -> Result<()> {
        self.tell_broken(run, batch)?;
        let StepPlan { epoch, step, own, .. } = batch.payload;
        let lr = self.config.schedule.lr(self.config.optim.lr, step, length.per_epoch, length.steps);
        let free = &mut |_: &'static str| Ok(());
        let method = run.method.as_mut();
        let computed = compute(method, upload.inputs(batch), self.config.shards(), free)?;
        let read = computed.read()?;
        read.refuse_non_finite(step + 1)?;
        computed.apply(method, &mut run.optimizer, lr, self.config.optim.clip(read.gradient_norm), free)?;

        run.meter.step(own as u64, waited_s, Instant::now());
        run.last_loss = read.loss;
        run.state.step = step + 1;
        run.state.epoch_sums.add(read.loss, &read.signals);
        self.report(run, read, epoch, lr, length)
    }

    fn tell_broken(&mut self, run: &mut Running, batch: &Batch<StepPlan>) -> Result<()> {
        for broken in &batch.broken {
            run.state.broken += 1;
            self.sinks.on(&Event::Broken {
                name: broken.name.clone(),
                reason: broken.reason.clone(),
                replaced_by: self.train.name(broken.replaced_by as usize),
            })?;
        }
        Ok(())
    }

    fn report(&mut self, run: &mut Running, read: Read, epoch: u64, lr: f64, length: Length) -> Result<()> {
        let (step, start) = (run.state.step, run.meter.start());
        self.sinks.on(&Event::Step {
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
        })?;
        if step.is_multiple_of(length.per_epoch) || step == length.steps {
            let (took, (loss, signals)) = (run.meter.end_epoch(), std::mem::take(&mut run.state.epoch_sums).means());
            self.sinks.on(&Event::Epoch {
                epoch: epoch + 1,
                step,
                loss,
                signals,
                wall_s: took.seconds,
                images_per_s: took.images_per_s(),
                data_wait: took.data_wait(),
                lr,
            })?;
            run.state.epoch = epoch + u64::from(step.is_multiple_of(length.per_epoch));
        }
        Ok(())
    }

    fn checkpoint_due(&self, step: u64, length: Length) -> bool {
        let every = &self.config.checkpoint;
        let epoch = step / length.per_epoch;
        step == length.steps
            || every.every_steps.is_some_and(|n| step.is_multiple_of(n))
            || every.every_epochs.is_some_and(|n| step.is_multiple_of(length.per_epoch) && epoch.is_multiple_of(n))
    }

    fn save(&mut self, run: &mut Running) -> Result<()> {
        (run.state.run, run.state.epoch_run) = (run.meter.run(), run.meter.epoch());
        run.state.wall_s = run.state.run.seconds;
        let mut tensors = run.method.state();
        tensors.extend(run.optimizer.state());
        let path = self.dir.checkpoint();
        Checkpoint { state: run.state.clone(), tensors }.write(&path)?;
        self.sinks.on(&Event::Checkpoint { step: run.state.step, path: path.display().to_string() })
    }

    fn upload(&self) -> Upload {
        Upload {
            target: self.device.target(),
            norm: self.config.views.normalization(),
            size: self.config.view_size(),
            seed: self.config.seed,
        }
    }
}
