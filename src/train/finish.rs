//! The end of a run: its last event, its summary, and the kNN results that both quote.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::events::{Event, Outcome as EndKind, Sink};
use super::meter::Totals;
use super::run::{Ended, Running, Session};
use super::summary::{Best, Knn, KnnSummary, Summary, peak_rss_mib};
use crate::data::Source;
use crate::error::{Error, Kind, Result};
use crate::eval::features::{Extraction, is_not_finite, unreadable_warning};
use crate::eval::knn::{KnnConfig, measure};
use crate::model::Frozen;

/// Where a run is when it ends: completed steps, completed epochs, the last loss, and what this start did.
pub(super) type Place = (u64, u64, f64, Totals);

impl Running {
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
        let knn = match self.knn_summary(run) {
            Err(error) if error.kind() == Kind::Interrupted => return self.interrupted(run),
            knn => knn?,
        };
        self.end(run.place(), EndKind::Finished);
        let broken_images = self.broken_images(run, knn.as_ref().map_or(&[], |knn| &knn.trained.unreadable));
        let summary = Summary { knn, broken_images, ..self.counters(run, EndKind::Finished) };
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
        }
    }

    /// Images of both splits that could not be read, each counted once: those that training met, and those that the evaluation left out.
    fn broken_images(&self, run: &Running, unreadable: &[String]) -> u64 {
        let met = run.state.broken_images.iter().map(|&index| self.train.name(index as usize));
        met.chain(unreadable.iter().cloned()).collect::<BTreeSet<String>>().len() as u64
    }

    /// The trained encoder beside the untrained one, if both can be measured.
    fn knn_summary(&mut self, run: &Running) -> Result<Option<KnnSummary>> {
        let trained = match &run.measured {
            Some((step, knn)) if *step == run.state.step => Some(knn.clone()),
            _ => self.measure(&run.method.encoder())?,
        };
        Ok(trained.zip(run.state.untrained.clone()).map(|(trained, untrained)| {
            let best = Best { top1: trained.top1, epoch: run.state.epoch, step: Some(run.state.step) }.or(run.state.best);
            KnnSummary {
                trained,
                untrained_top1: untrained.top1,
                untrained_other_top1: untrained.other_top1,
                best_top1: best.top1,
                best_epoch: best.epoch,
            }
        }))
    }

    /// kNN of the encoder, if there are labels and test images, with a warning of what it leaves out. Of features that are not finite there is
    /// a warning alone: training goes on, and they are no accuracy.
    pub(super) fn measure(&mut self, encoder: &Frozen) -> Result<Option<Knn>> {
        let Some(test) = self.test.as_ref().filter(|_| self.config.eval.enabled) else { return Ok(None) };
        let (knn, warning) = match knn(encoder, &self.train, test, &self.extraction(), &self.config.eval.knn) {
            Ok(knn) => {
                let warning = unreadable_warning(&knn.unreadable);
                (Some(knn), warning)
            }
            Err(error) if is_not_finite(&error) => (None, Some(format!("no kNN: {}", error.in_a_line()))),
            Err(error) => return Err(error.hint("set eval.enabled=false to train without the measurement")),
        };
        warning.into_iter().for_each(|message| self.warn_once(message));
        Ok(knn)
    }

    /// How the encoder is evaluated.
    pub(super) fn extraction(&self) -> Extraction {
        let how = Extraction::new(&self.config.views, self.config.eval.batch, self.config.data.loader_options(), &self.device);
        Extraction { stop: Some(&self.requests.stop), ..how }
    }
}

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
    let measured = measure(encoder, (bank, queries), how, config, &config.both(&encoder.layers())?)?;
    let [main, other] = &measured.layers[..] else { unreachable!("two layers were measured") };
    Ok(Knn {
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
    })
}
