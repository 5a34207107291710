//! The loop.

mod monitor;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::tensor::Tensor;

use super::checkpoint::{Checkpoint, State};
use super::events::{Event, Outcome as EndKind, Sink, Sinks};
use super::jobs::{Length, StepPlan, jobs};
use super::preview;
use super::run_dir::RunDir;
use super::summary::{Best, Knn, KnnSummary, Summary, peak_rss_mib};
use super::upload::Upload;
use crate::config::RunConfig;
use crate::data::{Batch, Loader, Source};
use crate::device::Opened;
use crate::error::{Error, Result};
use crate::eval::features::Extraction;
use crate::eval::knn::{KnnConfig, measure};
use crate::method::{Method, Outcome, Setup};
use crate::model::{Frozen, StateDict};
use crate::optim::Sgd;

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
struct Running {
    method: Box<dyn Method>,
    optimizer: Sgd,
    state: State,
    /// Seconds before this start.
    before_s: f64,
    started: Instant,
    /// Seconds of this start that were not training (monitors).
    paused_s: f64,
    /// Steps completed before this start.
    first: u64,
    images: u64,
    epoch_started: Instant,
    epoch_images: u64,
    epoch_waited: f64,
    last_loss: f64,
    /// The last kNN result of this start and the step it belongs to.
    measured: Option<(u64, Knn)>,
}

impl Running {
    /// Seconds of training in this start.
    fn trained_s(&self) -> f64 {
        self.started.elapsed().as_secs_f64() - self.paused_s
    }
}

/// The numbers of a step that are read back from the device, in one transfer.
struct Read {
    loss: f64,
    positive: f64,
    parts: Vec<(String, f64)>,
}

impl Session {
    /// Trains from `checkpoint`, or from the start, until the schedule ends or `stop` is set.
    ///
    /// # Errors
    /// A non-finite loss (before it can touch the weights), a failing device, disk or dataset. The last checkpoint stays valid.
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
        for message in self.config.method.warnings(self.train.len()) {
            self.sinks.on(&Event::Warning { message })?;
        }
        if running.state.step == 0 {
            running.state.untrained = self.measure(&running.method.encoder())?;
        }

        let transform = Arc::new(self.config.views.recipe());
        let jobs = jobs(&self.config, self.train.len(), length, running.first);
        let mut loader = Loader::start(self.train.clone(), transform, self.config.data.loader_options(), jobs);
        (running.started, running.epoch_started) = (Instant::now(), Instant::now());
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
        let waited = loader.waited().as_secs_f64();
        drop(loader);
        self.finish(running, waited)
    }

    /// The step itself, then its events.
    fn step(&mut self, run: &mut Running, upload: &Upload, batch: &Batch<StepPlan>, length: Length, waited: f64) -> Result<()> {
        for broken in &batch.broken {
            run.state.broken += 1;
            self.sinks.on(&Event::Broken {
                name: broken.name.clone(),
                reason: broken.reason.clone(),
                replaced_by: self.train.name(broken.replaced_by as usize),
            })?;
        }
        let StepPlan { epoch, step, own, .. } = batch.payload;
        let lr = self.config.schedule.lr(self.config.optim.lr, step, length.per_epoch, length.steps);
        let outcome = run.method.step(upload.inputs(batch));
        let read = read_back(&outcome)?;
        refuse_non_finite(&read, step + 1)?;
        run.method.update(&outcome.loss.backward(), &mut run.optimizer, lr);
        run.method.after_update();

        run.images += own as u64;
        run.epoch_images += own as u64;
        run.last_loss = read.loss;
        run.state.step = step + 1;
        run.state.epoch_sums.0 += read.loss;
        run.state.epoch_sums.1 += read.positive;
        run.state.epoch_sums.2 += 1;
        self.report(run, read, epoch, lr, length, waited)
    }

    fn report(&mut self, run: &mut Running, read: Read, epoch: u64, lr: f64, length: Length, waited: f64) -> Result<()> {
        let (step, seconds) = (run.state.step, run.trained_s());
        let images_per_s = run.images as f64 / seconds;
        let epoch_ends = step.is_multiple_of(length.per_epoch) || step == length.steps;
        self.sinks.on(&Event::Step {
            step,
            epoch: epoch + 1,
            lr,
            loss: read.loss,
            parts: read.parts,
            positive_prob: read.positive,
            images_per_s,
            data_wait: waited / seconds,
            eta_s: seconds / (step - run.first) as f64 * (length.steps - step) as f64,
        })?;
        if epoch_ends {
            let (loss, positive, count) = std::mem::take(&mut run.state.epoch_sums);
            let wall_s = run.epoch_started.elapsed().as_secs_f64();
            self.sinks.on(&Event::Epoch {
                epoch: epoch + 1,
                step,
                loss: loss / count as f64,
                positive_prob: positive / count as f64,
                wall_s,
                images_per_s: run.epoch_images as f64 / wall_s,
                data_wait: (waited - run.epoch_waited) / wall_s,
                lr,
            })?;
            run.state.epoch = epoch + u64::from(step.is_multiple_of(length.per_epoch));
            (run.epoch_started, run.epoch_images, run.epoch_waited) = (Instant::now(), 0, waited);
        }
        Ok(())
    }

    fn start(&mut self, checkpoint: Option<Checkpoint>) -> Result<Running> {
        let config = &self.config;
        let mut method = config.method.init(&Setup::new(&self.device, &config.model, self.train.len(), config.seed));
        let mut optimizer = Sgd::new(config.optim.clone());
        let state = match checkpoint {
            None => {
                if let Some(path) = &config.model.weights {
                    let message = start_from(method.as_mut(), path)?;
                    self.sinks.on(&Event::Warning { message })?;
                }
                State::start(config.method.name())
            }
            Some(Checkpoint { state, tensors }) => {
                let (velocity, learnt): (StateDict, StateDict) =
                    tensors.into_iter().partition(|(name, _)| name.starts_with(VELOCITY));
                method.restore(&learnt)?;
                let velocity = velocity.into_iter().map(|(name, data)| (name[VELOCITY.len()..].to_owned(), data)).collect();
                optimizer.restore(&velocity, &self.device.device);
                state
            }
        };
        let now = Instant::now();
        Ok(Running {
            method,
            optimizer,
            before_s: state.wall_s,
            first: state.step,
            state,
            started: now,
            paused_s: 0.0,
            images: 0,
            epoch_started: now,
            epoch_images: 0,
            epoch_waited: 0.0,
            last_loss: f64::NAN,
            measured: None,
        })
    }

    fn announce(&mut self, run: &Running, length: Length) -> Result<()> {
        let info = &self.device.info;
        self.sinks.on(&Event::Start {
            run: self.dir.path().display().to_string(),
            method: self.config.method.name().into(),
            mixture: self.config.mixture.name.text().into(),
            device: format!("{}: {} [{}]", info.name, info.description, info.compiler),
            kernels: info.kernels.all().map(Clone::clone).to_vec(),
            images: self.train.len() as u64,
            step: run.state.step,
            steps: length.steps,
            epochs: length.epochs(),
            parameters: run.method.encoder().parameters(),
        })
    }

    fn checkpoint_due(&self, step: u64, length: Length) -> bool {
        let every = &self.config.checkpoint;
        let epoch = step / length.per_epoch;
        step == length.steps
            || every.every_steps.is_some_and(|n| step.is_multiple_of(n))
            || every.every_epochs.is_some_and(|n| step.is_multiple_of(length.per_epoch) && epoch.is_multiple_of(n))
    }

    fn save(&mut self, run: &mut Running) -> Result<()> {
        run.state.wall_s = run.before_s + run.trained_s();
        let mut tensors = run.method.state();
        tensors.extend(run.optimizer.state().into_iter().map(|(name, data)| (format!("{VELOCITY}{name}"), data)));
        let path = self.dir.checkpoint();
        Checkpoint { state: run.state.clone(), tensors }.write(&path)?;
        self.sinks.on(&Event::Checkpoint { step: run.state.step, path: path.display().to_string() })
    }

    fn interrupted(&mut self, run: &Running) -> Result<Ended> {
        self.end(run, EndKind::Interrupted)?;
        Ok(Ended::Interrupted(run.state.step))
    }

    fn end(&mut self, run: &Running, outcome: EndKind) -> Result<()> {
        let wall_s = run.trained_s();
        self.sinks.on(&Event::End {
            outcome,
            step: run.state.step,
            epoch: run.state.epoch,
            loss: run.last_loss,
            wall_s,
            images_per_s: run.images as f64 / wall_s,
        })
    }

    fn finish(&mut self, run: &Running, waited: f64) -> Result<Ended> {
        let seconds = run.trained_s();
        self.end(run, EndKind::Finished)?;
        let trained = match &run.measured {
            Some((step, knn)) if *step == run.state.step => Some(knn.clone()),
            _ => self.measure(&run.method.encoder())?,
        };
        let knn = trained.zip(run.state.untrained.clone()).map(|(trained, untrained)| {
            let best = Best { top1: trained.top1, epoch: run.state.epoch }.or(run.state.best);
            KnnSummary {
                trained,
                untrained_top1: untrained.top1,
                untrained_other_top1: untrained.other_top1,
                best_top1: best.top1,
                best_epoch: best.epoch,
                bank: self.train.len(),
                queries: self.test.as_ref().map_or(0, |test| test.len()),
            }
        });
        let summary = Summary {
            method: self.config.method.name().into(),
            mixture: self.config.mixture.name.text().into(),
            device: self.device.info.name.clone(),
            steps: run.state.step,
            epochs: run.state.epoch,
            wall_s: run.before_s + seconds,
            images_per_s: run.images as f64 / seconds,
            data_wait: waited / seconds,
            loss_last: run.last_loss,
            broken_images: run.state.broken,
            peak_rss_mib: peak_rss_mib(),
            knn,
        };
        let text = serde_json::to_vec_pretty(&summary).map_err(|e| Error::run(format!("cannot write the summary: {e}")))?;
        crate::files::write_atomic(self.dir.summary(), &text)?;
        Ok(Ended::Finished(Box::new(summary)))
    }

    /// Checks that the device can hold the memory of negatives in one tensor.
    fn check_memory(&self) -> Result<()> {
        let (rows, dim) = (self.config.method.memory_rows(self.train.len()), self.config.model.head.dim);
        let (bytes, limit) = (4 * (rows * dim) as u64, self.device.info.largest_tensor().unwrap_or(u64::MAX));
        if bytes <= limit {
            return Ok(());
        }
        let what = format!(
            "the memory of {rows} rows of width {dim} has {} MiB, but the device holds at most {} MiB in a tensor",
            bytes >> 20,
            limit >> 20
        );
        Err(Error::input(what).hint("use a smaller memory or width (`model.head.dim`), or a device without that limit (cpu, cuda)"))
    }

    fn upload(&self) -> Upload {
        Upload {
            target: self.device.target(),
            norm: self.config.views.normalization(),
            size: self.config.view_size(),
            seed: self.config.seed,
        }
    }

    /// kNN of the encoder, if there are labels and test images.
    fn measure(&self, encoder: &Frozen) -> Result<Option<Knn>> {
        let Some(test) = self.test.as_ref().filter(|_| self.config.eval.enabled) else { return Ok(None) };
        let result = knn(encoder, &self.train, test, &self.extraction(), &self.config.eval.knn);
        result.map(Some).map_err(|error| error.hint("set eval.enabled=false to train without the measurement"))
    }

    /// How the encoder is evaluated.
    fn extraction(&self) -> Extraction {
        Extraction::new(&self.config.views, self.config.eval.batch, self.config.data.loader_options(), &self.device)
    }
}

/// Gives all encoders of a method, trained or averaged, the weights of a file; what it says of them is returned.
///
/// # Errors
/// A damaged file, or weights of another model.
fn start_from(method: &mut dyn Method, path: &std::path::Path) -> Result<String> {
    let mut state = method.state();
    let own = state.iter().filter_map(|(name, data)| Some((name.strip_prefix("query.")?.to_owned(), data.clone())));
    let (values, report) = crate::model::weights::read(path, &own.collect(), false)?;
    for (name, data) in values {
        for encoder in ["query", "key"] {
            if let Some(slot) = state.get_mut(&format!("{encoder}.{name}")) {
                *slot = data.clone();
            }
        }
    }
    method.restore(&state)?;
    Ok(format!("starts from given weights: {report}"))
}

/// Prefix of the optimizer's tensors in a checkpoint.
const VELOCITY: &str = "velocity.";

/// Weighted kNN of an encoder's last two layers; `config.layer` is the result, the other stands beside it.
///
/// # Errors
/// Those of [`measure`].
pub fn knn(
    encoder: &Frozen,
    bank: &Arc<dyn Source>,
    queries: &Arc<dyn Source>,
    how: &Extraction,
    config: &KnnConfig,
) -> Result<Knn> {
    let (measured, _) = measure(encoder, (bank, queries), how, config, &config.both(&encoder.layers())?)?;
    let [main, other] = &measured[..] else { unreachable!("two layers were measured") };
    Ok(Knn {
        k: main.k,
        temperature: config.temperature,
        layer: main.layer,
        top1: main.top1,
        top5: main.top5,
        other_layer: other.layer,
        other_top1: other.top1,
    })
}

/// Loss, positive probability and parts in one transfer.
fn read_back(outcome: &Outcome) -> Result<Read> {
    let scalars = [outcome.loss.clone().inner(), outcome.positive.clone()];
    let all: Vec<Tensor<1>> = scalars.into_iter().chain(outcome.parts.iter().map(|(_, part)| part.clone())).collect();
    let data =
        pollster::block_on(Tensor::cat(all, 0).into_data_async()).map_err(|e| Error::run(format!("the device failed: {e:?}")))?;
    let values = data.try_to_vec::<f32>().map_err(|e| Error::run(format!("the device returned no f32: {e:?}")))?;
    let parts = outcome.parts.iter().zip(&values[2..]).map(|((name, _), &value)| ((*name).to_owned(), f64::from(value))).collect();
    Ok(Read { loss: values[0].into(), positive: values[1].into(), parts })
}

/// Stops before an update that would destroy the weights.
fn refuse_non_finite(read: &Read, step: u64) -> Result<()> {
    let named = std::iter::once(("loss", read.loss)).chain(read.parts.iter().map(|(name, value)| (name.as_str(), *value)));
    match named.into_iter().find(|(_, value)| !value.is_finite()) {
        None => Ok(()),
        Some((name, value)) => Err(Error::run(format!("`{name}` is {value} at step {step}; the weights were not updated"))
            .hint("the last checkpoint is intact: resume from it with a lower optim.lr or a higher method.temperature")),
    }
}
