//! The end of a run: its last event, its summary, and the kNN results that both quote.

use std::sync::Arc;

use super::events::{Event, Outcome as EndKind, Sink};
use super::run::{Ended, Running, Session};
use super::summary::{Best, Knn, KnnSummary, Summary, peak_rss_mib};
use crate::data::Source;
use crate::error::{Error, Result};
use crate::eval::features::{Extraction, is_not_finite, unreadable_warning};
use crate::eval::knn::{KnnConfig, measure};
use crate::model::Frozen;

impl Session {
    pub(super) fn interrupted(&mut self, run: &Running) -> Result<Ended> {
        self.end(run, EndKind::Interrupted)?;
        Ok(Ended::Interrupted(run.state.step))
    }

    pub(super) fn end(&mut self, run: &Running, outcome: EndKind) -> Result<()> {
        let start = run.meter.start();
        self.sinks.on(&Event::End {
            outcome,
            step: run.state.step,
            epoch: run.state.epoch,
            loss: run.last_loss,
            wall_s: start.seconds,
            images_per_s: start.images_per_s(),
        })
    }

    pub(super) fn finish(&mut self, run: &Running) -> Result<Ended> {
        self.end(run, EndKind::Finished)?;
        let summary = Summary { knn: self.knn_summary(run)?, ..self.counters(run) };
        let text = serde_json::to_vec_pretty(&summary).map_err(|e| Error::run(format!("cannot write the summary: {e}")))?;
        crate::files::write_atomic(self.dir.summary(), &text)?;
        Ok(Ended::Finished(Box::new(summary)))
    }

    /// What the run did and took, over all its starts.
    fn counters(&self, run: &Running) -> Summary {
        let totals = run.meter.run();
        Summary {
            method: self.config.method.name().into(),
            mixture: self.config.mixture.name.text().into(),
            device: self.device.info.name.clone(),
            steps: run.state.step,
            epochs: run.state.epoch,
            wall_s: totals.seconds,
            images_per_s: totals.images_per_s(),
            data_wait: totals.data_wait(),
            loss_last: run.last_loss,
            broken_images: run.state.broken,
            peak_rss_mib: peak_rss_mib(),
            knn: None,
        }
    }

    /// The trained encoder beside the untrained one, if both can be measured.
    fn knn_summary(&mut self, run: &Running) -> Result<Option<KnnSummary>> {
        let trained = match &run.measured {
            Some((step, knn)) if *step == run.state.step => Some(knn.clone()),
            _ => self.measure(&run.method.encoder())?,
        };
        Ok(trained.zip(run.state.untrained.clone()).map(|(trained, untrained)| {
            let best = Best { top1: trained.top1, epoch: run.state.epoch }.or(run.state.best);
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
        warning.map_or(Ok(()), |message| self.sinks.on(&Event::Warning { message }))?;
        Ok(knn)
    }

    /// How the encoder is evaluated.
    pub(super) fn extraction(&self) -> Extraction {
        Extraction::new(&self.config.views, self.config.eval.batch, self.config.data.loader_options(), &self.device)
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
