//! Accuracy against the pre-training budget: the second figure of the paper.

use std::collections::BTreeMap;

use super::html::{Html, code};
use super::section::{Scene, Section, percent};
use crate::report::plot::scale::Spread;
use crate::report::plot::{Axis, Chart, Figure, Look, Mark, Series};
use crate::report::run::Run;

/// One accuracy of one run.
#[derive(Debug, Clone)]
struct Accuracy {
    run: String,
    look: Look,
    /// Method, model, mixture, and all else of the config but seed and length: what is joined by a line.
    group: [String; 4],
    epochs: f64,
    top1: f64,
}

/// Results of one protocol.
#[derive(Debug, Clone, Default)]
struct Protocol {
    slug: String,
    kind: String,
    results: Vec<Accuracy>,
}

/// One figure for each protocol under which some runs differ in nothing but their epochs.
pub fn section(scene: &Scene) -> Section {
    let mut section = Section::new("budget", "Accuracy and pre-training budget");
    if scene.runs.len() < 2 {
        return section;
    }
    let linear = figures(&collect(scene, "linear"));
    section.figures(if linear.is_empty() { figures(&collect(scene, "knn")) } else { linear });
    if section.body.is_empty() {
        let needed = "This figure needs runs of the same method, model and mixture with different numbers of epochs, evaluated by the same \
                      protocol. To make them:";
        section.push(Html::text(needed).within("p class=\"missing\""));
        section.push(code("unmix pretrain --config FILE --set schedule.epochs=EPOCHS\nunmix eval linear --run RUN").within("pre"));
    } else {
        section.push(
            Html::text("Dotted: without a mixture; solid: with one. A line joins the means over seeds.").within("p class=\"soft\""),
        );
    }
    section
}

/// The results of a kind by protocol. A kNN result that has no record is in the summary.
fn collect(scene: &Scene, kind: &str) -> BTreeMap<String, Protocol> {
    let mut protocols = BTreeMap::<String, Protocol>::new();
    for (run, look) in scene.iter() {
        let mut add = |protocol: String, slug: String, epochs: Option<f64>, top1: Option<f64>| {
            let Some((epochs, top1)) = epochs.zip(top1) else { return };
            let group = [run.method().into(), run.model(), run.mixture().into(), experiment(run)];
            let entry = protocols.entry(protocol).or_insert_with(|| Protocol { slug, kind: kind.into(), results: Vec::new() });
            entry.results.push(Accuracy { run: run.name.clone(), look, group, epochs, top1 });
        };
        for record in run.of_kind(kind) {
            let epochs = record.number("/subject/epochs").or_else(|| run.epochs());
            add(record.protocol(), record.slug(), epochs, record.top1());
        }
        if kind == "knn" && run.of_kind(kind).next().is_none() {
            let (protocol, slug) = summary_protocol(run);
            add(protocol, slug, run.result("/epochs").or_else(|| run.epochs()), run.result("/knn/top1"));
        }
    }
    protocols
}

/// The config without what runs of one line may differ in: seed, length, and where they ran.
fn experiment(run: &Run) -> String {
    const FREE: [&str; 7] = ["seed", "schedule.epochs", "resume", "device", "data.source.root", "data.workers", "data.prefetch"];
    let mut keys = super::differences::config(run);
    keys.retain(|key, _| {
        !FREE.contains(&key.as_str()) && !["eval.", "log.", "checkpoint."].iter().any(|part| key.starts_with(part))
    });
    format!("{keys:?}")
}

/// What the summary says of its kNN.
fn summary_protocol(run: &Run) -> (String, String) {
    let number = |key: &str| run.result(&format!("/knn/{key}")).unwrap_or(f64::NAN);
    let (layer, k, t) = (number("layer"), number("k"), number("temperature"));
    let [bank, queries] = [number("bank"), number("queries")];
    (format!("knn of the summary, layer {layer}, k {k}, T {t}, {bank} + {queries} images"), format!("knn-l{layer}"))
}

fn figures(protocols: &BTreeMap<String, Protocol>) -> Vec<Figure> {
    protocols.iter().filter_map(|(name, protocol)| protocol.figure(name)).collect()
}

impl Protocol {
    fn figure(&self, name: &str) -> Option<Figure> {
        let mut groups: Vec<&[String; 4]> = self.results.iter().map(|result| &result.group).collect();
        groups.sort();
        groups.dedup();
        let series: Vec<Series> = groups.into_iter().map(|group| self.line(group)).collect();
        if series.iter().all(|series| series.line.len() < 2) {
            return None;
        }
        let y = if self.kind == "linear" { "linear top-1, %" } else { "kNN top-1, %" };
        let chart = Chart {
            name: format!("budget-{}", self.slug),
            title: "Accuracy and budget".into(),
            caption: format!("Top-1 accuracy over epochs of pre-training, protocol {name}. {} runs.", self.results.len()),
            x: Axis::new("epochs of pre-training", Spread::Linear),
            y: Axis::new(y, Spread::Linear),
            series,
        };
        chart.draw()
    }

    /// The mean over the runs of each budget, and the runs themselves.
    fn line(&self, group: &[String; 4]) -> Series {
        let mut results: Vec<&Accuracy> = self.results.iter().filter(|result| result.group == *group).collect();
        results.sort_by(|a, b| a.epochs.total_cmp(&b.epochs));
        let mean = |same: &[&Accuracy]| same.iter().map(|result| result.top1).sum::<f64>() / same.len() as f64;
        let line = results.chunk_by(|a, b| a.epochs == b.epochs).map(|same| (same[0].epochs, mean(same))).collect();
        let mark = |result: &&Accuracy| Mark {
            at: (result.epochs, result.top1),
            text: format!("{}, {} epochs: {}", result.run, result.epochs, percent(Some(result.top1))),
        };
        let marks = results.iter().map(mark).collect();
        Series { name: group[..3].join(", "), look: results[0].look, line, marks }
    }
}
