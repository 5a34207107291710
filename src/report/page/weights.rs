//! Histograms of the weights by layer: the fifth figure of the paper.

use serde_json::Value;

use super::section::{Scene, Section};
use crate::report::plot::figure::slug;
use crate::report::plot::scale::Spread;
use crate::report::plot::{Axis, Chart, Figure, Look, Series, Shape};

/// The histograms of one layer: of each run that has it, and of the untrained encoders that are different.
struct Layer {
    name: String,
    series: Vec<Series>,
    /// The untrained ones so far, and whose they are.
    untrained: Vec<(Value, Vec<String>)>,
}

/// A figure for each layer, with a line for each run.
pub fn section(scene: &Scene) -> Section {
    let mut section = Section::new("weights", "Weights by layer");
    let mut layers: Vec<Layer> = Vec::new();
    for (run, look) in scene.iter() {
        // A second record is of other settings of the evaluation, which weights do not depend on.
        let record = run.of_kind("weights").last();
        for value in record.and_then(|record| record.value["result"]["layers"].as_array()).into_iter().flatten() {
            let Some(name) = value["name"].as_str() else { continue };
            let at = layers.iter().position(|layer| layer.name == name).unwrap_or_else(|| {
                layers.push(Layer { name: name.to_owned(), series: Vec::new(), untrained: Vec::new() });
                layers.len() - 1
            });
            let layer = &mut layers[at];
            layer.series.push(Series { name: run.name.clone(), look, line: density(&value["trained"]), marks: Vec::new() });
            if value["untrained"].is_object() {
                match layer.untrained.iter_mut().find(|(known, _)| *known == value["untrained"]) {
                    Some((_, runs)) => runs.push(run.name.clone()),
                    None => layer.untrained.push((value["untrained"].clone(), vec![run.name.clone()])),
                }
            }
        }
    }
    let colours = scene.looks.iter().map(|look| look.colour + 1).max().unwrap_or(0);
    section.figures(layers.into_iter().filter_map(|layer| layer.draw(colours)));
    section.push(scene.missing("weights", "histogram of the weights"));
    section
}

impl Layer {
    /// The chart; untrained encoders have the colours from `colour` on.
    fn draw(self, colour: usize) -> Option<Figure> {
        let alone = self.untrained.len() == 1;
        let untrained = self.untrained.into_iter().enumerate().map(|(at, (histogram, runs))| Series {
            name: if alone { "untrained".into() } else { format!("{}, untrained", runs.join(", ")) },
            look: Look { colour: colour + at, dotted: true, shape: Shape::nth(colour + at) },
            line: density(&histogram),
            marks: Vec::new(),
        });
        let chart = Chart {
            name: format!("weights-{}", slug(&self.name)),
            title: format!("Weights of {}", self.name),
            caption:
                "Density of the weights of all convolutions or linear layers of this name, four standard deviations to either side."
                    .into(),
            x: Axis::new("weight", Spread::Linear),
            y: Axis::new("density", Spread::Linear).with(0.0),
            series: untrained.chain(self.series).filter(|series| !series.line.is_empty()).collect(),
        };
        chart.draw()
    }
}

/// The share of all values per unit of their axis, at the middle of each bin; nothing where the histogram is damaged.
fn density(histogram: &Value) -> Vec<(f64, f64)> {
    let number = |key: &str| histogram[key].as_f64();
    let bins: Vec<f64> = histogram["bins"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
    let Some((low, high, count)) =
        number("low").zip(number("high")).zip(number("count")).map(|((low, high), count)| (low, high, count))
    else {
        return Vec::new();
    };
    let width = (high - low) / bins.len() as f64;
    let valid = width > 0.0 && width.is_finite() && count > 0.0;
    let point = |(at, value): (usize, &f64)| (low + (at as f64 + 0.5) * width, value / count / width);
    if valid { bins.iter().enumerate().map(point).collect() } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_density_covers_its_share_and_damage_draws_nothing() {
        let line = density(&json!({ "low": -1.0, "high": 1.0, "count": 10, "bins": [1, 4, 3, 1] }));
        assert_eq!(line, [(-0.75, 0.2), (-0.25, 0.8), (0.25, 0.6), (0.75, 0.2)]);
        for damaged in [
            json!(null),
            json!({ "low": null, "high": 1, "count": 1, "bins": [1] }),
            json!({ "low": 0, "high": 0, "count": 1, "bins": [1] }),
        ] {
            assert!(density(&damaged).is_empty(), "{damaged}");
        }
    }
}
