//! Looking at the encoder while it trains. Nothing here changes it: measured or not, a run ends with the same bits.

use std::sync::Arc;
use std::time::Instant;

use super::events::{Event, PERCENT, Sink};
use super::jobs::Length;
use super::run::{Running, Session};
use super::summary::Best;
use crate::error::Result;
use crate::eval::features::unreadable_warning;
use crate::eval::monitor::monitor;
use crate::model::Frozen;

impl Session {
    /// Measures the encoder if this step ends an epoch that is to be measured. The time does not count as training.
    pub(super) fn watch(&mut self, run: &mut Running, length: Length) -> Result<()> {
        let epoch_ends = run.state.step.is_multiple_of(length.per_epoch);
        if !(epoch_ends && self.config.eval.monitor.due(run.state.epoch)) {
            return Ok(());
        }
        let encoder = run.method.encoder();
        self.watch_features(run, &encoder)?;
        if self.config.eval.monitor.knn {
            self.watch_knn(run, &encoder)?;
        }
        run.meter.resume(Instant::now());
        Ok(())
    }

    /// The measures, and a warning when the encoder has collapsed since the last time.
    fn watch_features(&mut self, run: &mut Running, encoder: &Frozen) -> Result<()> {
        let start = Instant::now();
        let (config, source) = (&self.config, self.test.as_ref().unwrap_or(&self.train));
        let recipe = Arc::new(config.views.recipe());
        let seen = monitor(encoder, source, recipe, &self.extraction(), config.eval.monitor.images, config.seed)?;
        self.sinks.on(&Event::Monitor {
            epoch: run.state.epoch,
            step: run.state.step,
            images: seen.images as u64,
            feature_std: seen.feature_std,
            rankme: seen.rankme,
            rankme_features: seen.rankme_features,
            alignment: seen.alignment,
            uniformity: seen.uniformity,
            wall_s: start.elapsed().as_secs_f64(),
        })?;
        // Where kNN follows, it names them among all it could not read.
        let knn_follows = self.test.is_some() && self.config.eval.enabled && self.config.eval.monitor.knn;
        let unreadable = unreadable_warning(&seen.unreadable).filter(|_| !knn_follows);
        for message in unreadable.into_iter().chain(seen.diverged()) {
            self.sinks.on(&Event::Warning { message })?;
        }
        let collapse = seen.collapse();
        let before = std::mem::replace(&mut run.state.collapsed, collapse.is_some());
        match collapse.filter(|_| !before) {
            Some(message) => self.sinks.on(&Event::Warning { message }),
            None => Ok(()),
        }
    }

    /// kNN, if there are labels, test images, and features that are finite.
    fn watch_knn(&mut self, run: &mut Running, encoder: &Frozen) -> Result<()> {
        let start = Instant::now();
        let Some(knn) = self.measure(encoder)? else { return Ok(()) };
        let best = Best { top1: knn.top1, epoch: run.state.epoch }.or(run.state.best);
        run.state.best = Some(best);
        self.sinks.on(&Event::Knn {
            epoch: run.state.epoch,
            step: run.state.step,
            protocol: self.config.eval.knn.tag(knn.layer, &encoder.layers()).to_owned(),
            k: knn.k as u64,
            unit: PERCENT.to_owned(),
            top1: knn.top1,
            best: best.top1,
            wall_s: start.elapsed().as_secs_f64(),
        })?;
        run.measured = Some((run.state.step, knn));
        Ok(())
    }
}
