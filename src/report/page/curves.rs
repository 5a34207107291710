//! What was logged while the runs trained.

use serde_json::Value;

use super::html::{Html, paragraph};
use super::section::{Scene, Section, names};
use crate::report::plot::figure::slug;
use crate::report::plot::scale::Spread;
use crate::report::plot::{Axis, Chart, Figure, Series};
use crate::report::run::Run;
use crate::report::run::metrics::{points_of, top1};

/// Up to so many epochs the loss is shown for each logged step, too.
const FEW_EPOCHS: usize = 12;

/// One curve of a kind of event.
struct Curve {
    name: &'static str,
    title: &'static str,
    y: &'static str,
    event: &'static str,
    key: &'static str,
    /// Share to percent.
    percent: bool,
    /// Whether the axis begins at 0.
    zero: bool,
    caption: &'static str,
}

#[rustfmt::skip]
const TRAINING: [Curve; 9] = [
    Curve { name: "loss", title: "Loss", y: "mean over the epoch", event: "epoch", key: "loss", percent: false, zero: false,
        caption: "Training loss. Losses of different methods or mixtures are not comparable." },
    Curve { name: "positive", title: "Probability of the positive", y: "mean over the epoch, %", event: "epoch", key: "positive_prob",
        percent: true, zero: true, caption: "Softmax probability that a query gives to its own key; with another number of negatives it is another quantity." },
    Curve { name: "positive-score", title: "Score of the positive", y: "mean over the epoch", event: "epoch", key: "positive_score",
        percent: false, zero: true, caption: "exp(score / temperature) / Z under NCE, which normalises nothing: no probability." },
    Curve { name: "pair-cosine", title: "Cosine of the pairs", y: "mean over the epoch", event: "epoch", key: "pair_cosine",
        percent: false, zero: false, caption: "Cosine of the two views of an image; 1 with a spread near 0 is a collapse." },
    Curve { name: "spread", title: "Spread of the embedding", y: "share of the largest", event: "epoch", key: "spread",
        percent: true, zero: true, caption: "Standard deviation of the unit embeddings of a batch over its largest value, 1/sqrt(d); near 0 they have collapsed." },
    Curve { name: "prototypes-used", title: "Prototypes in use", y: "% of all", event: "epoch", key: "prototypes_used",
        percent: true, zero: true, caption: "Exponential of the entropy of the mean assignment, as a share of the prototypes." },
    Curve { name: "learning-rate", title: "Learning rate", y: "of the last step of the epoch", event: "epoch", key: "lr",
        percent: false, zero: true, caption: "Learning rate." },
    Curve { name: "speed", title: "Speed", y: "images/s", event: "epoch", key: "images_per_s", percent: false, zero: true,
        caption: "Source images per second while training." },
    Curve { name: "data-wait", title: "Waiting for data", y: "% of the time", event: "epoch", key: "data_wait", percent: true, zero: true,
        caption: "Share of the training time in which no batch was ready." },
];

#[rustfmt::skip]
const MONITORS: [Curve; 6] = [
    Curve { name: "feature-std", title: "Spread of the features", y: "standard deviation", event: "monitor", key: "feature_std",
        percent: false, zero: true, caption: "Standard deviation of the embedding over images; near 0 it has collapsed." },
    Curve { name: "rankme", title: "RankMe of the embedding", y: "effective rank", event: "monitor", key: "rankme",
        percent: false, zero: true, caption: "Effective rank of the embeddings (arXiv 2210.02885)." },
    Curve { name: "rankme-features", title: "RankMe of the features", y: "effective rank", event: "monitor", key: "rankme_features",
        percent: false, zero: true, caption: "Effective rank of the pooled features before the head." },
    Curve { name: "lidar", title: "LiDAR of the embedding", y: "effective rank", event: "monitor", key: "lidar",
        percent: false, zero: true, caption: "Effective rank of what tells images apart beyond what augmentation changes (arXiv 2312.04000)." },
    Curve { name: "alignment", title: "Alignment", y: "mean squared distance", event: "monitor", key: "alignment",
        percent: false, zero: true, caption: "Distance between two views of an image (arXiv 2005.10242); lower is better." },
    Curve { name: "uniformity", title: "Uniformity", y: "log of the mean potential", event: "monitor", key: "uniformity",
        percent: false, zero: false, caption: "How evenly embeddings fill the sphere (arXiv 2005.10242); lower is better." },
];

/// Curves of training and of the monitors.
pub fn section(scene: &Scene) -> Section {
    let mut section = Section::new("curves", "Training");
    let few = scene.runs.iter().all(|run| run.metrics.of("epoch").count() <= FEW_EPOCHS);
    let steps = if few { by_step(scene) } else { None };
    section.figures(TRAINING.iter().filter_map(|curve| curve.draw(scene)).chain(steps));
    if section.body.is_empty() {
        section.push(paragraph("No epoch and no step has been logged yet."));
    }
    let accuracies = knn(scene).into_iter().chain(linear(scene));
    let monitors: Vec<Figure> = accuracies.chain(MONITORS.iter().filter_map(|curve| curve.draw(scene))).collect();
    if !monitors.is_empty() {
        section.push(Html::text("While it trained").within("h3"));
        section.figures(monitors);
    }
    let without: Vec<&Run> = scene.runs.iter().filter(|run| run.metrics.of("monitor").next().is_none()).collect();
    if !without.is_empty() {
        let fact = "Feature spread, RankMe, LiDAR, alignment and uniformity were not logged";
        section.push(
            Html::text(format!("{fact} by {}. Monitors are measured while a run trains.", names(&without)))
                .within("p class=\"missing\""),
        );
    }
    section
}

impl Curve {
    /// The key of this curve in a run's events. Earlier versions called the score of NCE a probability.
    fn key_in(&self, run: &Run) -> Option<&'static str> {
        let nce = run.key("/method/loss") == "nce";
        let old = nce && run.metrics.of(self.event).any(|event| !event["positive_prob"].is_null());
        match self.key {
            "positive_prob" if nce => None,
            "positive_score" if old => Some("positive_prob"),
            key => Some(key),
        }
    }

    fn draw(&self, scene: &Scene) -> Option<Figure> {
        let scale = if self.percent { 100.0 } else { 1.0 };
        let line = |run: &Run| {
            let points = self.key_in(run).map_or_else(Vec::new, |key| run.metrics.curve(self.event, "epoch", key));
            points.into_iter().map(|p| (p.0, p.1 * scale)).collect()
        };
        let y = Axis::new(self.y, Spread::Linear);
        let y = if self.zero { y.with(0.0) } else { y };
        chart(scene, [self.name, self.title, self.caption], Axis::new("epoch", Spread::Whole), y, line).draw()
    }
}

/// A chart with a line for each run that has one.
fn chart(scene: &Scene, [name, title, caption]: [&str; 3], x: Axis, y: Axis, line: impl Fn(&Run) -> Vec<(f64, f64)>) -> Chart {
    let series = scene.iter().map(|(run, look)| Series { name: run.name.clone(), look, line: line(run), marks: Vec::new() });
    let series = series.filter(|series| !series.line.is_empty()).collect();
    Chart { name: name.into(), title: title.into(), caption: caption.into(), x, y, series }
}

fn by_step(scene: &Scene) -> Option<Figure> {
    let words = [
        "loss-steps",
        "Loss by step",
        "Training loss of the logged steps. Losses of different methods or mixtures are not comparable.",
    ];
    let (x, y) = (Axis::new("step", Spread::Whole), Axis::new("of the step", Spread::Linear));
    chart(scene, words, x, y, |run| run.metrics.curve("step", "step", "loss")).draw()
}

/// The protocols of all events of a kind that have one, each once.
fn protocols(scene: &Scene, kind: &str, of: impl Fn(&Value) -> Option<String>) -> Vec<String> {
    let mut protocols: Vec<String> = scene.runs.iter().flat_map(|run| run.metrics.of(kind).filter_map(&of)).collect();
    protocols.sort();
    protocols.dedup();
    protocols
}

/// One chart for each protocol: accuracies of two protocols do not belong on one axis.
fn knn(scene: &Scene) -> Vec<Figure> {
    let protocol = |event: &Value| event["protocol"].as_str().unwrap_or("knn").to_owned();
    let protocols = protocols(scene, "knn", |event| Some(protocol(event)));
    let draw = |wanted: &String| {
        let line = |run: &Run| {
            let events = run.metrics.of("knn").filter(|event| protocol(event) == *wanted);
            points_of(events.filter_map(|event| Some((event["epoch"].as_f64()?, top1(event)?))))
        };
        let (name, caption) =
            (format!("curve-{}", slug(wanted)), format!("Nearest neighbours during training, protocol {wanted}."));
        let words = [name.as_str(), "kNN accuracy", caption.as_str()];
        chart(scene, words, Axis::new("epoch", Spread::Whole), Axis::new("top-1, %", Spread::Linear), line).draw()
    };
    protocols.iter().filter_map(draw).collect()
}

/// Top-1 and top-5 of the monitor's linear probe, two charts for each protocol.
fn linear(scene: &Scene) -> Vec<Figure> {
    let protocol = |event: &Value| event["linear"]["protocol"].as_str().map(str::to_owned);
    let draw = |wanted: &String, key: &str, axis: &str| {
        let line = |run: &Run| {
            let events = run.metrics.of("monitor").filter(|event| protocol(event).as_ref() == Some(wanted));
            points_of(events.filter_map(|event| Some((event["epoch"].as_f64()?, event["linear"][key].as_f64()?))))
        };
        let name = format!("curve-{}-{key}", slug(wanted));
        let caption = format!("Linear probe of the features during training, protocol {wanted}.");
        let words = [name.as_str(), "Linear accuracy", caption.as_str()];
        chart(scene, words, Axis::new("epoch", Spread::Whole), Axis::new(axis, Spread::Linear), line).draw()
    };
    let both = |wanted: &String| [draw(wanted, "top1", "top-1, %"), draw(wanted, "top5", "top-5, %")];
    protocols(scene, "monitor", protocol).iter().flat_map(both).flatten().collect()
}
