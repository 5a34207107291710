//! The evaluations that a report shows, made where they are missing.

use std::path::Path;

use serde_json::Value;

use super::subject::{Subject, SubjectArgs};
use super::{flatness, knn, map, weights};
use crate::config::RunConfig;
use crate::error::{Error, Result};
use crate::model::LayerName;
use crate::train::checkpoint::step_of;

/// What a report wants of every run.
const WANTED: [&str; 4] = ["knn", "flatness", "weights", "map"];

/// Makes what is missing of the run's latest checkpoint. Returns what could not be made and why, one line each.
pub fn complete(run: &Path, device: Option<&str>) -> Vec<String> {
    let failed = |what: &str, error: &Error| format!("{}: no {what}: {}", run.display(), error.message());
    let missing = match step_of(&run.join("checkpoint")).and_then(|step| Ok((step, crate::cli::run_config(run)?))) {
        Ok((step, config)) => missing(&run.join("eval"), step, &config),
        Err(error) => return vec![failed("evaluation", &error)],
    };
    if missing.is_empty() {
        return Vec::new();
    }
    eprintln!("{}: evaluating ({})", run.display(), missing.join(", "));
    match SubjectArgs::of_run(run, device).open(&[]) {
        Err(error) => vec![failed("evaluation", &error)],
        Ok(subject) => missing.iter().filter_map(|kind| make(&subject, kind).err().map(|error| failed(kind, &error))).collect(),
    }
}

/// The kinds of which there is no record at `step` on the run's own data, by the config's own settings.
fn missing(folder: &Path, step: u64, config: &RunConfig) -> Vec<&'static str> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let records = files.filter(|path| path.extension().is_some_and(|end| end == "json"));
    let records: Vec<Value> =
        records.filter_map(|path| std::fs::read(path).ok()).filter_map(|text| serde_json::from_slice(&text).ok()).collect();
    let layers = config.model.layers();
    let knn = &config.eval.knn;
    let has = |kind: &str, layer: Option<usize>| {
        records.iter().any(|record| {
            let protocol = &record["protocol"];
            let bank = record["data"]["train_images"].as_u64().unwrap_or(u64::MAX);
            let same = kind != "knn" || protocol["k"] == (knn.k as u64).min(bank) && protocol["temperature"] == knn.temperature;
            let own = record["subject"]["step"] == step && record["data"]["transfer"] != true;
            record["kind"] == kind && own && same && layer.is_none_or(|layer| protocol["layer"] == layer)
        })
    };
    let made = |kind: &str| match kind {
        "knn" => knn.both(&layers).is_ok_and(|both| both.into_iter().all(|layer| has(kind, Some(layer)))),
        // Of all layers.
        "weights" => has(kind, None),
        _ => has(kind, Some(layers.features())),
    };
    WANTED.into_iter().filter(|kind| !made(kind)).collect()
}

fn make(subject: &Subject, kind: &str) -> Result<()> {
    match kind {
        "knn" => {
            let layers = knn::default_layers(&subject.config.eval.knn, subject.last_layer, &subject.encoder.layers())?;
            let (records, ..) = knn::measured(subject, &layers)?;
            records.iter().try_for_each(|record| record.write(&subject.out).map(drop))
        }
        "flatness" => flatness::measure(subject)?.0.write(&subject.out).map(drop),
        "weights" => weights::measure(subject).0.write(&subject.out).map(drop),
        _ => map::draw(subject, LayerName::FEATURES, crate::eval::map::IMAGES).map(drop),
    }
}
