//! Flattened predictions: the third figure of the paper.

use super::html::{Html, table};
use super::section::{Scene, Section, digits};
use crate::report::plot::scale::Spread;
use crate::report::plot::{Axis, Chart, Look, Series};
use crate::report::run::Run;
use crate::report::run::record::Record;

/// Ranks that are drawn; more cannot be told apart on a logarithmic axis.
const RANKS: usize = 150;

/// Mean sorted softmax over rank, a line for each run, and the entropies.
pub fn section(scene: &Scene) -> Section {
    let mut section = Section::new("flatness", "Flattened predictions");
    let records: Vec<(&Run, Look, &Record)> =
        scene.iter().flat_map(|(run, look)| run.of_kind("flatness").map(move |record| (run, look, record))).collect();
    if !records.is_empty() {
        section.figures(chart(&records).draw());
        let head = ["Run", "Protocol", "Dimensions", "Images", "Entropy, nats", "At most", "Share", "Largest probability"];
        section.push(table("Entropies", &head, records.iter().map(|(run, _, record)| row(run, record))));
    }
    section.push(scene.missing("flatness", "measurement of how flat the predictions are"));
    section
}

fn chart(records: &[(&Run, Look, &Record)]) -> Chart {
    let name = |run: &Run, record: &Record| {
        let alone = run.of_kind("flatness").count() == 1;
        if alone { run.name.clone() } else { format!("{}, {}", run.name, record.name()) }
    };
    let series = |(run, look, record): &(&Run, Look, &Record)| Series {
        name: name(run, record),
        look: *look,
        line: by_rank(&record.numbers("mean_sorted")),
        marks: Vec::new(),
    };
    Chart {
        name: "flatness".into(),
        title: "Sorted probabilities".into(),
        caption: "Softmax over the pooled features of an image, sorted and averaged over images. A flatter line is a less confident encoder."
            .into(),
        x: Axis::new("rank", Spread::Log),
        y: Axis::new("mean probability", Spread::Log),
        series: records.iter().map(series).collect(),
    }
}

/// Values over their rank from 1, at ranks that are even on a logarithmic axis.
fn by_rank(sorted: &[f64]) -> Vec<(f64, f64)> {
    let last = sorted.len().saturating_sub(1) as f64;
    let place = |index: usize| (last + 1.0).powf(index as f64 / (RANKS - 1) as f64) - 1.0;
    let mut ranks: Vec<usize> = (0..RANKS).map(|index| place(index).round() as usize).filter(|rank| *rank < sorted.len()).collect();
    ranks.dedup();
    ranks.into_iter().map(|rank| ((rank + 1) as f64, sorted[rank])).collect()
}

fn row(run: &Run, record: &Record) -> Vec<Html> {
    let number = |key: &str| record.number(&format!("/result/{key}"));
    let text = |value: Option<f64>, count: i32| Html::text(value.map_or_else(|| "–".into(), |value| digits(value, count)));
    let share = number("entropy").zip(number("entropy_max")).map(|(entropy, most)| format!("{:.1} %", entropy / most * 100.0));
    vec![
        Html::text(&run.name),
        Html::text(record.protocol()),
        text(number("width"), 1),
        text(number("images"), 1),
        text(number("entropy"), 4),
        text(number("entropy_max"), 4),
        Html::text(share.unwrap_or_else(|| "–".into())),
        text(number("largest"), 3),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_begin_at_one_and_end_at_the_last() {
        let sorted: Vec<f64> = (0..512).map(|i| 1.0 / f64::from(i + 1)).collect();
        let line = by_rank(&sorted);
        assert!(line.len() <= RANKS && line[0] == (1.0, 1.0) && line.last() == Some(&(512.0, 1.0 / 512.0)));
        assert!(by_rank(&[]).is_empty() && by_rank(&[1.0]) == [(1.0, 1.0)]);
    }
}
