//! `unmix eval knn`.

use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::subject::{Subject, SubjectArgs};
use crate::cli;
use crate::error::{Error, Result};
use crate::eval::knn::{KnnConfig, Measurement, measure};
use crate::eval::record::Record;
use crate::model::{LayerName, Layers};

/// `unmix eval knn`.
#[derive(Debug, Args)]
pub struct Knn {
    #[command(flatten)]
    subject: SubjectArgs,
    /// Layers, separated by commas: features, embedding, or numbers from 1 (-1 is the last). By default that of `eval.knn.layer` and the
    /// other one of the last two.
    #[arg(long, value_name = "LAYERS", value_delimiter = ',', allow_negative_numbers = true)]
    layer: Vec<LayerName>,
    /// Neighbours that vote (`eval.knn.k`).
    #[arg(long)]
    k: Option<usize>,
    /// Temperature of the votes (`eval.knn.temperature`).
    #[arg(long)]
    temperature: Option<f64>,
}

impl Knn {
    /// Runs the subcommand.
    pub fn run(&self) -> Result<ExitCode> {
        let k = self.k.map(|k| format!("eval.knn.k={k}"));
        let temperature = self.temperature.map(|t| format!("eval.knn.temperature={t}"));
        let subject = self.subject.open(&k.into_iter().chain(temperature).collect::<Vec<_>>())?;
        let (config, names) = (&subject.config.eval.knn, subject.encoder.layers());
        let layers = match &self.layer[..] {
            [] => default_layers(config, subject.last_layer, &names)?,
            asked => LayerName::resolve_all(asked, &names, "eval.knn.layer")?,
        };
        let (records, measured) = measured(&subject, &layers)?;
        for record in &records {
            record.write(&subject.out)?;
        }
        if self.subject.json {
            return self.print_json(&records, &measured, config);
        }
        for (record, one) in records.iter().zip(&measured.layers) {
            cli::print(&format!(
                "weighted kNN ({}, layer {}, k {}, T {}): top-1 {:.2} %, top-5 {:.2} %",
                record.protocol["tag"].as_str().unwrap_or_default(),
                names.shown(one.layer),
                one.k,
                config.temperature,
                one.top1,
                one.top5
            ));
        }
        cli::print(&format!(
            "features: {:.0} images/s, data wait {:.1} %; results in {}",
            measured.images_per_s,
            100.0 * measured.data_wait,
            subject.out.display()
        ));
        Ok(ExitCode::SUCCESS)
    }

    fn print_json(&self, records: &[Record], measured: &Measurement, config: &KnnConfig) -> Result<ExitCode> {
        let [first, rest @ ..] = &measured.layers[..] else { return Err(Error::input("no layer was asked for")) };
        let mut object = json!({
            "k": first.k, "temperature": config.temperature, "layer": first.layer, "top1": first.top1, "top5": first.top5,
            "step": records[0].subject.step, "device": records[0].device, "results": records,
        });
        if let [other, ..] = rest {
            (object["other_layer"], object["other_top1"]) = (other.layer.into(), other.top1.into());
        }
        cli::print_json(&object)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The configured layer and the other one of the last two; of weights without head the features alone.
///
/// # Errors
/// The encoder has no such layer.
pub fn default_layers(config: &KnnConfig, last: usize, layers: &Layers) -> Result<Vec<usize>> {
    let both = config.both(layers)?;
    Ok(if last < layers.embedding() { vec![both[0].min(last)] } else { both.to_vec() })
}

/// kNN of some layers, as records.
pub fn measured(subject: &Subject, layers: &[usize]) -> Result<(Vec<Record>, Measurement)> {
    let started = Instant::now();
    let (config, names) = (&subject.config.eval.knn, subject.encoder.layers());
    subject.check_head(layers, "eval.knn.layer")?;
    let sources = (&subject.train, &subject.test);
    let measured = measure(&subject.encoder, sources, &subject.single_pass()?, config, layers)?;
    subject.tell_unreadable(&measured.unreadable);
    let records = measured.layers.iter().map(|one| {
        let tag = config.tag(one.layer, &names);
        let protocol = json!({
            "tag": tag, "layer": one.layer, "k": one.k, "temperature": config.temperature,
            "similarity": "cosine", "bank": "training split without augmentation",
        });
        let result = json!({
            "top1": one.top1, "top5": one.top5, "classes": one.classes, "per_class": one.per_class,
            "bank": measured.bank, "queries": measured.queries, "images_per_s": measured.images_per_s,
            "data_wait": measured.data_wait, "broken_images": measured.unreadable.len(), "unreadable": measured.unreadable,
        });
        subject.context.record("knn", &format!("{tag}-l{}", one.layer), protocol, result, started.elapsed().as_secs_f64())
    });
    Ok((records.collect(), measured))
}
