//! Flattened predictions: the third figure of the paper.

use serde_json::Value;

use super::html::{Html, table};
use super::section::{Scene, Section, digits};
use crate::report::plot::figure::slug;
use crate::report::plot::scale::Spread;
use crate::report::plot::{Axis, Chart, Figure, Look, Series};
use crate::report::run::Run;
use crate::report::run::record::numbers;

/// Ranks that are drawn; more cannot be told apart on a logarithmic axis.
const RANKS: usize = 150;

/// One line: the run, what was looked at, and what came out.
type Entry<'a> = (&'a Run, Look, String, &'a Value);

const HEAD: [&str; 8] =
    ["Run", "Protocol or image", "Dimensions", "Images", "Entropy, nats", "At most", "Share", "Largest probability"];

/// Mean sorted softmax over rank, a line for each run, the same of single images, and the entropies.
pub fn section(scene: &Scene) -> Section {
    let mut section = Section::new("flatness", "Flattened predictions");
    let means: Vec<Entry> = scene
        .iter()
        .flat_map(|(run, look)| run.of_kind("flatness").map(move |one| (run, look, one.protocol(), &one.value["result"])))
        .collect();
    let images = single_images(scene);
    if !means.is_empty() || !images.is_empty() {
        section.figures(mean_chart(&means).draw().into_iter().chain(images.iter().filter_map(image_chart)));
        let all = means.iter().chain(images.iter().flatten());
        section.push(table("Entropies", &HEAD, all.map(row)));
    }
    section.push(scene.missing("flatness", "measurement of how flat the predictions are"));
    section
}

/// The single images that were measured, by name in the order in which they come up, each with the runs that saw it.
fn single_images<'a>(scene: &Scene<'a>) -> Vec<Vec<Entry<'a>>> {
    let mut images: Vec<Vec<Entry>> = Vec::new();
    for (run, look) in scene.iter() {
        for value in
            run.of_kind("flatness_image").flat_map(|record| record.value["result"]["images"].as_array().into_iter().flatten())
        {
            let Some(name) = value["name"].as_str() else { continue };
            let entry = (run, look, name.to_owned(), value);
            let same = |other: &Value| ["name", "digest"].iter().all(|key| other[*key] == value[*key]);
            match images.iter_mut().find(|entries| same(entries[0].3)) {
                // Two calls gave the same encoder the same image.
                Some(entries) if entries.iter().any(|known| std::ptr::eq(known.0, run)) => {}
                Some(entries) => entries.push(entry),
                None => images.push(vec![entry]),
            }
        }
    }
    images
}

fn mean_chart(entries: &[Entry]) -> Chart {
    let name = |(run, _, protocol, _): &Entry| {
        let alone = entries.iter().filter(|other| std::ptr::eq(other.0, *run)).count() == 1;
        if alone { run.name.clone() } else { format!("{}, {protocol}", run.name) }
    };
    let caption = "Softmax over the pooled features of an image, sorted and averaged over images. A flatter line is a less confident encoder.";
    chart(["flatness", "Sorted probabilities", caption, "mean probability"], entries, name)
}

fn image_chart(entries: &Vec<Entry>) -> Option<Figure> {
    let file = &entries[0].2;
    let short = file.rsplit(['/', '\\']).next().unwrap_or(file);
    let (name, title) = (format!("flatness-{}", slug(short)), format!("Sorted probabilities of {short}"));
    let caption = format!("Softmax over the pooled features of the image {file}, sorted.");
    chart([&name, &title, &caption, "probability"], entries, |entry| entry.0.name.clone()).draw()
}

fn chart([name, title, caption, y]: [&str; 4], entries: &[Entry], line: impl Fn(&Entry) -> String) -> Chart {
    let series = |entry: &Entry| Series {
        name: line(entry),
        look: entry.1,
        line: by_rank(&numbers(&entry.3["mean_sorted"])),
        marks: Vec::new(),
    };
    Chart {
        name: name.into(),
        title: title.into(),
        caption: caption.into(),
        x: Axis::new("rank", Spread::Log),
        y: Axis::new(y, Spread::Log),
        series: entries.iter().map(series).collect(),
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

fn row((run, _, what, result): &Entry) -> Vec<Html> {
    let number = |key: &str| result[key].as_f64();
    let text = |value: Option<f64>, count: i32| Html::text(value.map_or_else(|| "–".into(), |value| digits(value, count)));
    let share = number("entropy").zip(number("entropy_max")).map(|(entropy, most)| format!("{:.1} %", entropy / most * 100.0));
    vec![
        Html::text(&run.name),
        Html::text(what),
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
