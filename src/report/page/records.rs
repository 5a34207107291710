//! Every evaluation with its whole protocol, and how the linear probes came to theirs.

use std::collections::BTreeMap;

use serde_json::Value;

use super::html::{Html, definitions, noted, paragraph, table};
use super::section::{Scene, Section, digits, percent};
use crate::report::plot::scale::Spread;
use crate::report::plot::{Axis, Chart, Figure, Look, Series};
use crate::report::run::Run;
use crate::report::run::metrics::points;
use crate::report::run::record::Record;

/// All records.
pub fn section(scene: &Scene) -> Section {
    let mut section = Section::new("results", "All results");
    let records = scene.runs.iter().flat_map(|run| run.records.iter().map(move |record| (run, record)));
    let rows: Vec<Vec<Html>> = records.clone().map(|(run, record)| row(run, record)).collect();
    section.figures(curves(scene));
    if rows.is_empty() {
        section.push(paragraph("No evaluation has been recorded."));
        section.push(scene.missing("knn", "record of an evaluation"));
    } else {
        section.push(table("All results", &["Run", "Evaluation", "Result", "Training / test images", "Made by"], rows));
        section.push(Html::text("Protocols in full").within("h3"));
        section.push(protocols(&records.collect::<Vec<_>>()));
    }
    section
}

fn row(run: &Run, record: &Record) -> Vec<Html> {
    let word = |pointer: &str| record.value.pointer(pointer).map(plain).unwrap_or_default();
    let count = |key: &str| record.number(&format!("/data/{key}")).map_or_else(String::new, |n| format!(" ({})", digits(n, 1)));
    let transfer = if record.value["data"]["transfer"] == true { ", transfer" } else { "" };
    let data =
        format!("{}{} / {}{}{transfer}", word("/data/train"), count("train_images"), word("/data/test"), count("test_images"));
    let made = format!("{} {}", word("/program"), word("/commit"));
    vec![
        Html::text(&run.name),
        noted(record.name(), step(run, record)),
        result(record),
        Html::text(if record.value["data"].is_object() { data } else { "–".into() }),
        noted(made.trim(), format!("{} {}", word("/device"), word("/date")).trim()),
    ]
}

/// The protocol, and of an earlier checkpoint than the latest its step.
fn step(run: &Run, record: &Record) -> String {
    let latest = run.records.iter().filter_map(Record::step).max();
    match record.step().filter(|_| record.step() < latest) {
        Some(step) => format!("{}, at step {step}", record.protocol()),
        None => record.protocol(),
    }
}

/// The main numbers of a record.
fn result(record: &Record) -> Html {
    let number = |key: &str| record.number(&format!("/result/{key}"));
    let mut lines = Vec::new();
    if let Some(top1) = record.top1() {
        lines.push(format!("top-1 {}", percent(Some(top1))));
    }
    lines.extend(number("top5").or(number("top5_last")).map(|top5| format!("top-5 {}", percent(Some(top5)))));
    let best = number("top1_best").map(|best| {
        let epoch = number("best_epoch").map_or_else(String::new, |epoch| format!(" at epoch {epoch}"));
        format!("best {}{epoch}", percent(Some(best)))
    });
    lines.extend(best);
    lines.extend(number("lr").map(|lr| format!("learning rate {lr}")));
    lines.extend(number("labels").map(|labels| format!("{labels} labels")));
    lines.extend(number("entropy").map(|entropy| format!("entropy {} nats", digits(entropy, 4))));
    let listed = |key: &str| record.value["result"][key].as_array().map(|list| list.len() as f64);
    lines.extend(number("images").or(listed("images")).map(|images| format!("{} images", digits(images, 1))));
    lines.extend(listed("layers").map(|layers| format!("{layers} layers")));
    if lines.is_empty() {
        lines.push("–".into());
    }
    lines.into_iter().map(|line| Html::text(line).within("div class=\"line\"")).collect()
}

/// Every distinct protocol in full, with the results made by it and the learning rates that were tried.
fn protocols(records: &[(&Run, &Record)]) -> Html {
    let mut distinct: Vec<(Value, Vec<&(&Run, &Record)>)> = Vec::new();
    for entry in records {
        let mut protocol = entry.1.value["protocol"].clone();
        if let Some(table) = protocol.as_object_mut() {
            ["layer", "layer_name"].iter().for_each(|key| drop(table.shift_remove(*key)));
        }
        match distinct.iter_mut().find(|(known, _)| *known == protocol) {
            Some((_, entries)) => entries.push(entry),
            None => distinct.push((protocol, vec![entry])),
        }
    }
    distinct.iter().map(|(protocol, entries)| block(protocol, entries)).collect()
}

fn block(protocol: &Value, entries: &[&(&Run, &Record)]) -> Html {
    let mut pairs = Vec::new();
    flatten("protocol", protocol, &mut pairs);
    let list = definitions(pairs.into_iter().map(|(key, value)| (key, Html::text(value))));
    let (first, count) = (entries[0].1, entries.len());
    let results = if count == 1 { "1 result".to_owned() } else { format!("{count} results") };
    let summary = Html::text(format!("{} ({results})", first.across_layers())).within("summary");
    let head = ["Run", "Layer", "Step", "Seed", "Weights", "Seconds", "Learning rates, last top-1"];
    summary.and(list).and(table("Results of this protocol", &head, entries.iter().map(|entry| made(entry)))).within("details")
}

/// Whose result it is, and what the rates that were tried gave.
fn made((run, record): &(&Run, &Record)) -> Vec<Html> {
    let word = |pointer: &str| Html::text(record.value.pointer(pointer).filter(|v| !v.is_null()).map_or_else(|| "–".into(), plain));
    let rate = |rate: &Value| format!("{}: {}", rate["lr"], percent(rate["top1_last"].as_f64()));
    let rates = record.value["result"]["rates"].as_array().filter(|rates| rates.len() > 1);
    let rates = rates.map_or_else(String::new, |rates| rates.iter().map(rate).collect::<Vec<_>>().join(", "));
    vec![
        Html::text(&run.name),
        word("/protocol/layer"),
        word("/subject/step"),
        word("/subject/seed"),
        word("/subject/digest"),
        Html::text(record.number("/wall_s").map_or_else(|| "–".into(), |seconds| digits(seconds, 3))),
        Html::text(rates),
    ]
}

/// Accuracies of the linear probes over their epochs, a chart of the top-1 and one of the top-5 for each protocol.
fn curves(scene: &Scene) -> Vec<Figure> {
    let mut protocols = BTreeMap::<String, Vec<(&Run, Look, &Record)>>::new();
    for (run, look) in scene.iter() {
        for record in run.of_kind("linear") {
            protocols.entry(record.protocol()).or_default().push((run, look, record));
        }
    }
    let accuracies = [("top1", "top-1, %"), ("top5", "top-5, %")];
    protocols.iter().flat_map(|(protocol, records)| accuracies.map(|which| curve(protocol, records, which))).flatten().collect()
}

/// One accuracy, `key` of the points of a record's curve, of the probes of one protocol.
fn curve(protocol: &str, records: &[(&Run, Look, &Record)], (key, axis): (&str, &str)) -> Option<Figure> {
    let series = |(run, look, record): &(&Run, Look, &Record)| {
        let curve = record.value["result"]["curve"].as_array().map_or(&[][..], Vec::as_slice);
        Series { name: run.name.clone(), look: *look, line: points(curve.iter(), "epoch", key), marks: Vec::new() }
    };
    let name = if key == "top1" { String::new() } else { format!("-{key}") };
    let chart = Chart {
        name: format!("probe-{}{name}", records[0].2.slug()),
        title: "Linear probe".into(),
        caption: format!("Accuracy while the probe trains, protocol {protocol}."),
        x: Axis::new("epoch of the probe", Spread::Whole),
        y: Axis::new(axis, Spread::Linear),
        series: records.iter().map(series).filter(|series| series.line.len() > 1).collect(),
    };
    chart.draw()
}

/// The leaves of a value with their dotted keys.
pub fn flatten(at: &str, value: &Value, out: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| flatten(&format!("{at}.{key}"), value, out)),
        Value::Null if !at.contains('.') => {}
        value => out.push((at.into(), plain(value))),
    }
}

/// A value in words: a string without its quotes.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "null".into(),
        value => value.to_string(),
    }
}
