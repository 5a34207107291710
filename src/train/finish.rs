//! The end of a run: its last event, its summary, and the accuracies that it and the monitors quote.

use std::collections::BTreeSet;
use std::time::Instant;

use super::events::{Event, Outcome as EndKind, Sink};
use super::meter::Totals;
use super::run::{Ended, Running, Session};
use super::summary::{Best, Knn, KnnSummary, LinearSummary, Summary, peak_rss_mib};
use crate::error::{Error, Kind, Result};
use crate::eval::features::{Extraction, is_not_finite, unreadable_warning};
use crate::eval::knn::{KnnConfig, measure_splits};
use crate::eval::linear::config::Facts;
use crate::eval::linear::{Plan, Probed, Protocol, probe_rows};
use crate::eval::splits::Splits;
use crate::model::Frozen;

/// Where a run is when it ends: completed steps, completed epochs, the last loss, and what this start did.
pub(super) type Place = (u64, u64, f64, Totals);

/// What is asked of the labels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// Weighted kNN.
    pub knn: bool,
    /// A linear probe.
    pub linear: bool,
}

impl Wanted {
    /// kNN alone.
    pub const KNN: Self = Self { knn: true, linear: false };
}

/// What the labels say of an encoder.
#[derive(Debug, Clone, Default)]
pub(super) struct Measured {
    /// Weighted kNN.
    pub knn: Option<Knn>,
    /// A linear probe.
    pub linear: Option<Probed>,
    /// Seconds of the linear probe's updates.
    pub linear_s: f64,
    /// Names of the images of either split that could not be read.
    pub unreadable: Vec<String>,
}

impl Running {
    /// The better of an accuracy of this step and an earlier best.
    pub(super) fn best(&self, top1: f64, before: Option<Best>) -> Best {
        Best { top1, epoch: self.state.epoch, step: Some(self.state.step) }.or(before)
    }

    pub(super) fn place(&self) -> Place {
        (self.state.step, self.state.epoch, self.last_loss, self.meter.start())
    }
}

impl Session {
    pub(super) fn interrupted(&mut self, run: &Running) -> Result<Ended> {
        self.end(run.place(), EndKind::Interrupted);
        self.write_summary(&self.counters(run, EndKind::Interrupted))?;
        self.sinks.sync()?;
        Ok(Ended::Interrupted(run.state.step))
    }

    pub(super) fn end(&mut self, (step, epoch, loss, start): Place, outcome: EndKind) {
        // Nothing is on its way to the disk any more.
        let _ = self.sinks.release();
        self.tell(&Event::End { outcome, step, epoch, loss, wall_s: start.seconds, images_per_s: start.images_per_s() });
    }

    /// The summary comes last: a run that has one of its last step is complete.
    pub(super) fn finish(&mut self, run: &Running) -> Result<Ended> {
        let measured = match self.measured(run) {
            Err(error) if error.kind() == Kind::Interrupted => return self.interrupted(run),
            measured => measured?,
        };
        self.end(run.place(), EndKind::Finished);
        let broken_images = self.broken_images(run, &measured.unreadable);
        let (knn, linear) = (knn_summary(run, measured.knn), measured.linear.map(|linear| linear_summary(run, linear)));
        let summary = Summary { knn, linear, broken_images, ..self.counters(run, EndKind::Finished) };
        self.sinks.sync()?;
        self.write_summary(&summary)?;
        Ok(Ended::Finished(Box::new(summary)))
    }

    fn write_summary(&self, summary: &Summary) -> Result<()> {
        let text = serde_json::to_vec_pretty(summary).map_err(|e| Error::run(format!("cannot write the summary: {e}")))?;
        crate::files::write_atomic(self.dir.summary(), &text)
    }

    /// What the run did and took, over all its starts.
    fn counters(&self, run: &Running, outcome: EndKind) -> Summary {
        let totals = run.meter.run();
        Summary {
            outcome,
            method: self.config.method.name().into(),
            mixture: self.config.mixture.name.text().into(),
            device: self.device.info.name.clone(),
            steps: run.state.step,
            epochs: run.state.epoch,
            wall_s: totals.seconds,
            images_per_s: totals.images_per_s(),
            data_wait: totals.data_wait(),
            loss_last: run.last_loss,
            broken_images: self.broken_images(run, &[]),
            peak_rss_mib: peak_rss_mib(),
            knn: None,
            linear: None,
        }
    }

    /// Images of both splits that could not be read, each counted once: those that training met, and those that the evaluation left out.
    fn broken_images(&self, run: &Running, unreadable: &[String]) -> u64 {
        let met = run.state.broken_images.iter().map(|&index| self.train.name(index as usize));
        met.chain(unreadable.iter().cloned()).collect::<BTreeSet<String>>().len() as u64
    }

    /// What the labels say of the trained encoder: what the last step's monitor did not ask is asked now.
    fn measured(&mut self, run: &Running) -> Result<Measured> {
        let known = run.measured.as_ref().filter(|(step, _)| *step == run.state.step);
        let known = known.map_or_else(Measured::default, |(_, measured)| measured.clone());
        let linear = self.config.eval.monitor.linear && known.linear.is_none();
        let more = self.measure(&run.method.encoder(), Wanted { knn: known.knn.is_none(), linear })?;
        Ok(Measured {
            knn: known.knn.or(more.knn),
            linear: known.linear.or(more.linear),
            linear_s: known.linear_s + more.linear_s,
            unreadable: if more.unreadable.is_empty() { known.unreadable } else { more.unreadable },
        })
    }

    /// Asks the labels, if there are any and test images, with a warning of the images that are left out. Of features that are not finite there
    /// is a warning alone: training goes on, and they are no accuracy.
    pub(super) fn measure(&mut self, encoder: &Frozen, wanted: Wanted) -> Result<Measured> {
        if !self.config.eval.enabled || !(wanted.knn || wanted.linear) {
            return Ok(Measured::default());
        }
        let what = if wanted.knn { "kNN" } else { "linear probe" };
        let Some(splits) = self.splits(encoder, wanted, what).transpose() else { return Ok(Measured::default()) };
        let hinted = |error: Error| error.hint("set eval.enabled=false to train without the measurement");
        let Some(splits) = self.or_warn(what, splits).map_err(hinted)? else { return Ok(Measured::default()) };
        let unreadable = splits.unreadable();
        unreadable_warning(&unreadable).into_iter().for_each(|message| self.warn_once(message));
        let start = Instant::now();
        let linear = if wanted.linear { self.or_warn("linear probe", self.probe(encoder, &splits))? } else { None };
        let linear_s = start.elapsed().as_secs_f64();
        let knn = wanted.knn.then(|| knn(splits, &self.config.eval.knn));
        Ok(Measured { knn, linear, linear_s, unreadable })
    }

    /// Both splits through the encoder, if there is a test split: the layers of kNN, and for a probe the features.
    fn splits(&self, encoder: &Frozen, wanted: Wanted, what: &str) -> Result<Option<Splits>> {
        let Some(test) = &self.test else { return Ok(None) };
        let names = encoder.layers();
        let mut layers = if wanted.knn { self.config.eval.knn.both(&names)?.to_vec() } else { Vec::new() };
        if wanted.linear && !layers.contains(&names.features()) {
            layers.push(names.features());
        }
        Splits::of(encoder, (&self.train, test), &self.extraction(), &layers, what).map(Some)
    }

    /// A probe of the features by the protocol whose features have no augmentation, so that those of kNN serve it.
    fn probe(&self, encoder: &Frozen, splits: &Splits) -> Result<Probed> {
        let facts = Facts { classes: splits.classes.len(), ..self.config.probed() };
        let plan = Plan::of(Protocol::Htdt, &facts);
        let at = splits.layers.iter().position(|&layer| layer == encoder.layers().features()).expect("the features were extracted");
        let images = self.config.eval.monitor.linear_images;
        probe_rows(splits, at, &plan, images, self.config.seed, Some(&self.requests.stop))
    }

    /// `None` and a warning in the place of what is not finite.
    fn or_warn<T>(&mut self, what: &str, result: Result<T>) -> Result<Option<T>> {
        match result {
            Err(error) if is_not_finite(&error) => {
                self.warn_once(format!("no {what}: {}", error.in_a_line()));
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    /// How the encoder is evaluated.
    pub(super) fn extraction(&self) -> Extraction {
        let how = Extraction::new(&self.config.views, self.config.eval.batch, self.config.data.loader_options(), &self.device);
        Extraction { stop: Some(&self.requests.stop), ..how }
    }
}

/// The trained encoder beside the untrained one, if both were measured.
fn knn_summary(run: &Running, trained: Option<Knn>) -> Option<KnnSummary> {
    trained.zip(run.state.untrained.clone()).map(|(trained, untrained)| {
        let best = run.best(trained.top1, run.state.best);
        KnnSummary {
            trained,
            untrained_top1: untrained.top1,
            untrained_other_top1: untrained.other_top1,
            best_top1: best.top1,
            best_epoch: best.epoch,
        }
    })
}

fn linear_summary(run: &Running, trained: Probed) -> LinearSummary {
    let best = run.best(trained.top1, run.state.best_linear);
    LinearSummary { trained, best_top1: best.top1, best_epoch: best.epoch }
}

/// Weighted kNN of the first two layers of `splits`: the first is the result, the other stands beside it.
fn knn(mut splits: Splits, config: &KnnConfig) -> Knn {
    // A third layer is the probe's.
    [&mut splits.train.layers, &mut splits.test.layers].into_iter().for_each(|layers| layers.truncate(2));
    let measured = measure_splits(splits, config);
    let [main, other] = &measured.layers[..] else { unreachable!("two layers were measured") };
    Knn {
        k: main.k,
        temperature: config.temperature,
        layer: main.layer,
        top1: main.top1,
        top5: main.top5,
        other_layer: other.layer,
        other_top1: other.top1,
        bank: measured.bank,
        queries: measured.queries,
        unreadable: measured.unreadable,
    }
}
