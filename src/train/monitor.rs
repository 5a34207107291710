//! Looking at the encoder while it trains. Nothing here changes it: measured or not, a run ends with the same bits.

use std::sync::Arc;
use std::time::Instant;

use super::events::{Event, PERCENT};
use super::finish::{Measured, Wanted};
use super::jobs::Length;
use super::run::{Running, Session};
use super::summary::Knn;
use crate::error::Result;
use crate::eval::features::unreadable_warning;
use crate::eval::monitor::{Monitored, monitor};
use crate::model::Frozen;

impl Session {
    /// Measures the encoder if this step ends an epoch that is to be measured. The time does not count as training. Nothing is told before all of
    /// it is known: a measurement that is interrupted is made anew by the next start.
    pub(super) fn watch(&mut self, run: &mut Running, length: Length) -> Result<()> {
        let epoch_ends = run.state.step > 0 && run.state.step.is_multiple_of(length.per_epoch);
        if epoch_ends && self.config.eval.monitor.due(run.state.epoch) {
            let encoder = run.method.encoder();
            let features = self.look(&encoder)?;
            let (start, monitor) = (Instant::now(), &self.config.eval.monitor);
            let measured = self.measure(&encoder, Wanted { knn: monitor.knn, linear: monitor.linear })?;
            let took = start.elapsed().as_secs_f64();
            self.tell_features(run, &features, &measured);
            if let Some(knn) = &measured.knn {
                self.tell_knn(run, knn, &encoder, took - measured.linear_s);
            }
            run.measured = Some((run.state.step, measured));
            run.meter.resume(Instant::now());
        }
        run.state.watched = Some(run.state.step);
        Ok(())
    }

    /// The measures, and how long they took.
    fn look(&self, encoder: &Frozen) -> Result<(Monitored, f64)> {
        let start = Instant::now();
        let (config, source) = (&self.config, self.test.as_ref().unwrap_or(&self.train));
        // Two views by one recipe, also where those of training differ: the alignment is that of equals.
        let recipe = Arc::new(config.views.recipe());
        let seen = monitor(encoder, source, recipe, &self.extraction(), config.eval.monitor.images, config.seed)?;
        Ok((seen, start.elapsed().as_secs_f64()))
    }

    /// The measures, and a warning when the encoder has collapsed since the last time.
    fn tell_features(&mut self, run: &mut Running, (seen, wall_s): &(Monitored, f64), measured: &Measured) {
        if let Some(linear) = &measured.linear {
            run.state.best_linear = Some(run.best(linear.top1, run.state.best_linear));
        }
        self.tell(&Event::Monitor {
            epoch: run.state.epoch,
            step: run.state.step,
            images: seen.images as u64,
            feature_std: seen.feature_std,
            rankme: seen.rankme,
            rankme_features: seen.rankme_features,
            lidar: seen.lidar,
            alignment: seen.alignment,
            uniformity: seen.uniformity,
            linear: measured.linear.clone(),
            wall_s: wall_s + measured.linear_s,
        });
        // Where both splits were read, they were named among all that could not be.
        let monitor = &self.config.eval.monitor;
        let both = self.test.is_some() && self.config.eval.enabled && (monitor.knn || monitor.linear);
        let unreadable = unreadable_warning(&seen.unreadable).filter(|_| !both);
        unreadable.into_iter().for_each(|message| self.warn_once(message));
        if let Some(message) = seen.diverged() {
            self.warn(message);
        }
        let collapse = seen.collapse(self.config.method.cure());
        let before = std::mem::replace(&mut run.state.collapsed, collapse.is_some());
        if let Some(message) = collapse.filter(|_| !before) {
            self.warn(message);
        }
    }

    fn tell_knn(&mut self, run: &mut Running, knn: &Knn, encoder: &Frozen, wall_s: f64) {
        let best = run.best(knn.top1, run.state.best);
        run.state.best = Some(best);
        self.tell(&Event::Knn {
            epoch: run.state.epoch,
            step: run.state.step,
            protocol: self.config.eval.knn.tag(knn.layer, &encoder.layers()).to_owned(),
            k: knn.k as u64,
            unit: PERCENT.to_owned(),
            top1: knn.top1,
            best: best.top1,
            wall_s,
        });
    }
}
