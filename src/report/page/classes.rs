//! Nearest neighbours class by class.

use std::collections::BTreeMap;

use super::html::paragraph;
use super::section::{Scene, Section};
use crate::report::plot::dots::Dots;
use crate::report::plot::{Figure, Look};
use crate::report::run::record::Record;

/// More classes are not readable in one figure.
const AT_MOST: usize = 50;

/// A dot plot for each protocol: what a class gains or loses between runs.
pub fn section(scene: &Scene) -> Section {
    let mut section = Section::new("classes", "kNN by class");
    let mut protocols = BTreeMap::<(String, Vec<String>), Vec<(String, Look, &Record)>>::new();
    for (run, look) in scene.iter() {
        for record in run.of_kind("knn").filter(|record| !record.numbers("per_class").is_empty()) {
            protocols.entry((record.protocol(), record.words("classes"))).or_default().push((run.name.clone(), look, record));
        }
    }
    section.figures(protocols.iter().filter_map(|((protocol, _), records)| figure(protocol, records)));
    if section.body.is_empty() && scene.runs.iter().any(|run| run.of_kind("knn").next().is_some()) {
        section.push(paragraph("The kNN records have no accuracies by class: the images have no names of classes."));
    }
    section.push(scene.missing("knn", "kNN record with accuracies by class"));
    section
}

fn figure(protocol: &str, records: &[(String, Look, &Record)]) -> Option<Figure> {
    let mut rows: Vec<String> = Vec::new();
    for class in records.iter().flat_map(|(_, _, record)| record.words("classes")) {
        if !rows.contains(&class) {
            rows.push(class);
        }
    }
    let values = |record: &Record, rows: &[String]| {
        let of_class: BTreeMap<String, f64> = record.words("classes").into_iter().zip(record.numbers("per_class")).collect();
        rows.iter().map(|row| of_class.get(row).copied().unwrap_or(f64::NAN)).collect::<Vec<f64>>()
    };
    let all: Vec<Vec<f64>> = records.iter().map(|(_, _, record)| values(record, &rows)).collect();
    let count = rows.len();
    let rows = ordered(rows, &all);
    let shown = if count > AT_MOST { format!(" The {AT_MOST} lowest of {count} classes.") } else { String::new() };
    let series = records.iter().map(|(name, look, record)| (name.clone(), *look, values(record, &rows))).collect();
    let name = format!("classes-{}", records.first()?.2.slug());
    let caption = format!("Top-1 accuracy by class, protocol {protocol}, lowest mean last.{shown}");
    Dots { name, title: "Accuracy by class".into(), caption, axis: "top-1, %".into(), rows, series }.draw()
}

/// The lowest classes, by their mean over the runs, the highest of them first.
fn ordered(rows: Vec<String>, all: &[Vec<f64>]) -> Vec<String> {
    let mean = |row: usize| {
        let values: Vec<f64> = all.iter().map(|values| values[row]).filter(|v| v.is_finite()).collect();
        values.iter().sum::<f64>() / values.len().max(1) as f64
    };
    let mut order: Vec<(f64, String)> = rows.into_iter().enumerate().map(|(row, name)| (mean(row), name)).collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0));
    let cut = order.len().saturating_sub(AT_MOST);
    order.into_iter().skip(cut).map(|(_, name)| name).collect()
}
