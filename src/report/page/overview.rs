//! The runs at a glance.

use std::collections::BTreeMap;

use super::html::{Html, noted, paragraph, table};
use super::section::{Scene, Section, digits, names, percent};
use crate::report::run::Run;
use crate::report::run::metrics::top1;
use crate::report::run::record::Record;
use crate::time::duration;

const HEAD: [&str; 12] = [
    "Run",
    "Method",
    "Mixture",
    "Model",
    "Epochs",
    "Images/s",
    "Waiting for data",
    "Time",
    "Peak memory",
    "kNN top-1",
    "kNN untrained",
    "Linear top-1",
];

/// One row for each run.
pub fn section(scene: &Scene) -> Section {
    let mut section = Section::new("runs", "Runs");
    section.push(table("Runs", &HEAD, scene.runs.iter().map(row)));
    let unfinished: Vec<&Run> = scene.runs.iter().filter(|run| run.summary.is_null()).collect();
    if !unfinished.is_empty() {
        section.push(paragraph(format!(
            "Not finished, or without a summary.json: {}. Speed and waiting are those of their last epoch, the time is that of all epochs so far.",
            names(&unfinished)
        )));
    }
    section.push(scene.missing("linear", "linear probe"));
    section
}

fn row(run: &Run) -> Vec<Html> {
    let last = |key: &str| run.metrics.curve("epoch", "epoch", key).last().map(|point| point.1);
    let number = |key: &str| run.result(&format!("/{key}")).or_else(|| last(key));
    let text = |value: Option<f64>, words: fn(f64) -> String| Html::text(value.map_or_else(|| "–".into(), words));
    let seed = run.key("/seed").as_u64().map_or_else(String::new, |seed| format!("seed {seed}"));
    vec![
        noted(&run.name, seed),
        Html::text(run.method()),
        Html::text(run.mixture()),
        noted(run.model(), run.key("/data/source/name").as_str().unwrap_or_default()),
        epochs(run),
        text(number("images_per_s"), |v| digits(v, 3)),
        text(number("data_wait"), |v| format!("{:.1}\u{a0}%", v * 100.0)),
        text(wall(run), duration),
        text(run.result("/peak_rss_mib"), |v| format!("{}\u{a0}MiB", digits(v, 3))),
        knn(run),
        Html::text(percent(run.result("/knn/untrained_top1"))),
        linear(run),
    ]
}

/// Done and planned epochs, if they differ.
fn epochs(run: &Run) -> Html {
    let planned = run.epochs();
    let done = run.result("/epochs").or_else(|| run.metrics.curve("epoch", "epoch", "loss").last().map(|point| point.0));
    match (done, planned) {
        (Some(done), Some(planned)) if done < planned => noted(digits(done, 1), format!("of {planned}")),
        (Some(epochs), _) => Html::text(digits(epochs, 1)),
        (None, planned) => noted("0", planned.map_or_else(String::new, |planned| format!("of {planned}"))),
    }
}

/// Seconds of training; without a summary, the sum over the epochs.
fn wall(run: &Run) -> Option<f64> {
    let epochs = run.metrics.curve("epoch", "epoch", "wall_s");
    run.result("/wall_s").or_else(|| (!epochs.is_empty()).then(|| epochs.iter().map(|point| point.1).sum()))
}

/// The run's own measurement; else the records, a line each.
fn knn(run: &Run) -> Html {
    let number = |key: &str| run.result(&format!("/knn/{key}"));
    if let Some(top1) = number("top1") {
        let words = [("layer", "layer"), ("k", "k"), ("temperature", "T")];
        let words = words.map(|(key, word)| number(key).map(|value| format!("{word}\u{a0}{value}")));
        let images = number("bank").zip(number("queries")).map(|(bank, queries)| format!("{bank} + {queries} images"));
        return noted(percent(Some(top1)), words.into_iter().flatten().chain(images).collect::<Vec<_>>().join(", "));
    }
    let event = run.metrics.of("knn").next_back().filter(|_| run.of_kind("knn").next().is_none());
    match event.and_then(|event| Some((top1(event)?, event["epoch"].as_u64()?, event["protocol"].as_str()?))) {
        Some((top1, epoch, protocol)) => noted(percent(Some(top1)), format!("{protocol}, after epoch {epoch}")),
        None => records(run, "knn"),
    }
}

/// The records; without any, the probe of the run's own monitor.
fn linear(run: &Run) -> Html {
    let number = |key: &str| run.result(&format!("/linear/{key}"));
    match number("top1").filter(|_| run.of_kind("linear").next().is_none()) {
        Some(top1) => {
            let protocol = run.summary["linear"]["protocol"].as_str().unwrap_or("linear");
            let images = number("images").map_or_else(String::new, |images| format!(", {images} images"));
            noted(percent(Some(top1)), format!("{protocol}, monitored{images}"))
        }
        None => records(run, "linear"),
    }
}

/// The highest layer of each protocol but the embedding; the others are in the figures by layer and in the table of all results.
fn records(run: &Run, kind: &str) -> Html {
    let mut of_protocol = BTreeMap::<String, Vec<&Record>>::new();
    let accuracies = run.of_kind(kind).filter(|record| record.top1().is_some());
    accuracies.for_each(|record| of_protocol.entry(record.across_layers()).or_default().push(record));
    let features = run.layers().map_or(u64::MAX, |layers| layers - 1);
    let shown = of_protocol.into_values().filter_map(|mut records| {
        records.sort_by_key(|record| record.layer());
        records.iter().rev().find(|record| record.layer() <= Some(features)).or(records.last()).copied()
    });
    let results: Html = shown.map(|record| noted(percent(record.top1()), record.protocol()).within("div")).collect();
    if results.is_empty() { Html::text("–") } else { results }
}
