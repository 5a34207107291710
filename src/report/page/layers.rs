//! Accuracy over the layers of the encoder, as CMC's figures show it: where in the net a class can be read off best.

use std::collections::BTreeMap;

use super::section::{Scene, Section, percent};
use crate::report::plot::figure::slug;
use crate::report::plot::scale::Spread;
use crate::report::plot::{Axis, Chart, Figure, Look, Mark, Series};
use crate::report::run::Run;
use crate::report::run::record::Record;

/// One figure for each protocol that was applied to several layers of some run.
pub fn section(scene: &Scene) -> Section {
    let mut section = Section::new("layers", "Accuracy by layer");
    for (kind, axis) in [("linear", "linear top-1, %"), ("knn", "kNN top-1, %")] {
        section.figures(figures(scene, kind, axis));
    }
    section
}

fn figures(scene: &Scene, kind: &str, axis: &str) -> Vec<Figure> {
    let mut protocols = BTreeMap::<String, Vec<(&Run, Look, Vec<&Record>)>>::new();
    for (run, look) in scene.iter() {
        let mut of_run = BTreeMap::<String, Vec<&Record>>::new();
        run.of_kind(kind).for_each(|record| of_run.entry(record.across_layers()).or_default().push(record));
        of_run.into_iter().for_each(|(protocol, records)| protocols.entry(protocol).or_default().push((run, look, records)));
    }
    protocols.iter().filter_map(|(protocol, runs)| figure(protocol, runs, axis)).collect()
}

fn figure(protocol: &str, runs: &[(&Run, Look, Vec<&Record>)], axis: &str) -> Option<Figure> {
    let series: Vec<Series> = runs.iter().map(|(run, look, records)| line(run, *look, records)).collect();
    if series.iter().all(|series| series.line.len() < 2) {
        return None;
    }
    // The words of the protocol have its data and settings too; a file needs a short name.
    let name = protocol.split(',').next().unwrap_or_default();
    let chart = Chart {
        name: format!("layers-{}", slug(name)),
        title: "Accuracy by layer".into(),
        caption: format!(
            "Top-1 accuracy of each layer, protocol {protocol}. The last layer is the embedding, the one before it the features."
        ),
        x: Axis::new("layer", Spread::Linear),
        y: Axis::new(axis, Spread::Linear),
        series,
    };
    chart.draw()
}

fn line(run: &Run, look: Look, records: &[&Record]) -> Series {
    let mut points: Vec<(f64, f64)> = records.iter().filter_map(|record| Some((record.layer()? as f64, record.top1()?))).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mark = |&at: &(f64, f64)| Mark { at, text: format!("{}, layer {}: {}", run.name, at.0, percent(Some(at.1))) };
    Series { name: run.name.clone(), look, marks: points.iter().map(mark).collect(), line: points }
}
