//! A part of the page, and what all parts are made from.

use super::html::{Html, code, shell};
use crate::report::plot::look::SHAPES;
use crate::report::plot::{Figure, Look, Shape};
use crate::report::run::Run;

/// So many commands are written out; the others differ in the run's folder only.
const COMMANDS: usize = 4;

/// The runs and how each is drawn, in all figures alike.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The runs.
    pub runs: &'a [Run],
    /// Their looks.
    pub looks: Vec<Look>,
}

impl<'a> Scene<'a> {
    /// Gives every run its look. Method and model share a colour, as in the paper's second figure: dotted without a mixture, solid with
    /// one; a second mixture of the same method and model takes a colour of its own.
    pub fn new(runs: &'a [Run]) -> Self {
        let mut colours: Vec<(String, String, Option<String>)> = Vec::new();
        let mut looks = Vec::new();
        for (index, run) in runs.iter().enumerate() {
            let mixture = (!run.is_baseline()).then(|| run.mixture().to_owned());
            let (method, model) = (run.method().to_owned(), run.model());
            let same = colours
                .iter()
                .position(|(a, b, c)| *a == method && *b == model && (mixture.is_none() || c.is_none() || *c == mixture));
            let colour = same.unwrap_or(colours.len());
            if same.is_none() {
                colours.push((method, model, mixture.clone()));
            } else if colours[colour].2.is_none() {
                colours[colour].2 = mixture.clone();
            }
            let look = |shape| Look { colour, dotted: run.is_baseline(), shape: Shape::nth(shape) };
            // A form of its own as far as they go, for paper without colours; then at least not the look of another run.
            let free = (index..index + SHAPES.len()).map(look).find(|look| !looks.contains(look));
            looks.push(free.unwrap_or(look(index)));
        }
        Self { runs, looks }
    }

    /// The runs with their looks.
    pub fn iter(&self) -> impl Iterator<Item = (&'a Run, Look)> {
        self.runs.iter().zip(self.looks.iter().copied())
    }

    /// For the runs without a record of `kind`: which they are, and the commands that make one.
    pub fn missing(&self, kind: &str, what: &str) -> Html {
        let without: Vec<&Run> = self.runs.iter().filter(|run| run.of_kind(kind).next().is_none()).collect();
        if without.is_empty() {
            return Html::default();
        }
        let whose = if without.len() == self.runs.len() { String::new() } else { format!(" for {}", names(&without)) };
        let command = |run: &&Run| format!("unmix eval {kind} --run {}", shell(&run.path.to_string_lossy()));
        let mut commands: Vec<String> = without.iter().take(COMMANDS).map(command).collect();
        if without.len() > COMMANDS {
            commands.push(format!("# and so on for the other {}", without.len() - COMMANDS));
        }
        let text = Html::text(format!("There is no {what}{whose} yet. To make it:")).within("p class=\"missing\"");
        text.and(code(commands.join("\n")).within("pre"))
    }
}

/// The names of runs, as a list in a sentence.
pub fn names(runs: &[&Run]) -> String {
    runs.iter().map(|run| run.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// A part of the page with a heading. One without content is not shown.
#[derive(Debug, Default)]
pub struct Section {
    /// Its anchor.
    pub id: &'static str,
    /// Its heading.
    pub title: &'static str,
    /// Its content, figures included.
    pub body: Html,
    /// The figures in it.
    pub figures: Vec<Figure>,
    taken: Vec<String>,
}

impl Section {
    /// An empty part.
    pub fn new(id: &'static str, title: &'static str) -> Self {
        Self { id, title, ..Self::default() }
    }

    /// Appends text or a table.
    pub fn push(&mut self, piece: Html) {
        self.body.push(piece);
    }

    /// Appends figures, side by side where there is room.
    pub fn figures(&mut self, figures: impl IntoIterator<Item = Figure>) {
        let mut figures: Vec<Figure> = figures.into_iter().collect();
        for figure in &mut figures {
            figure.name = unique(&mut self.taken, &figure.name);
        }
        if !figures.is_empty() {
            self.body.push(Html::markup(figures.iter().map(Figure::inline).collect::<String>()).within("div class=\"figures\""));
            self.figures.extend(figures);
        }
    }
}

/// A name that is not taken yet, and now is: with a number behind it if need be.
pub fn unique(taken: &mut Vec<String>, name: &str) -> String {
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let free = [name.to_owned()].into_iter().chain(numbered).find(|name| !taken.contains(name)).unwrap_or_default();
    taken.push(free.clone());
    free
}

/// An accuracy.
pub fn percent(value: Option<f64>) -> String {
    value.filter(|v| v.is_finite()).map_or_else(|| "–".into(), |value| format!("{value:.2}\u{a0}%"))
}

/// A value with about `digits` significant digits.
pub fn digits(value: f64, digits: i32) -> String {
    if !value.is_finite() {
        return "–".into();
    }
    if value != 0.0 && value.abs() < 1e-4 {
        return format!("{value:.2e}");
    }
    let before = if value == 0.0 { 1 } else { value.abs().log10().floor() as i32 + 1 };
    crate::report::plot::scale::grouped(value, (digits - before).clamp(0, 8) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(method: &str, mixture: &str) -> Run {
        Run {
            name: mixture.into(),
            path: "runs/x".into(),
            config: json!({ "method": { "name": method }, "mixture": { "name": mixture }, "model": { "name": "resnet18" } }),
            summary: json!(null),
            metrics: Default::default(),
            preview: None,
            records: Vec::new(),
        }
    }

    #[test]
    fn a_baseline_is_dotted_in_the_colour_of_its_method() {
        let runs =
            [run("moco", "none"), run("moco", "im"), run("cmc", "im"), run("moco", "unmix"), run("cmc", "none"), run("moco", "im")];
        let scene = Scene::new(&runs);
        let many: Vec<Run> = (0..12).map(|index| run("moco", if index < 6 { "none" } else { "im" })).collect();
        let looks = Scene::new(&many).looks;
        assert!(looks.iter().enumerate().all(|(index, look)| !looks[..index].contains(look)), "twelve runs, twelve looks");
        assert_eq!(scene.looks.iter().map(|look| look.colour).collect::<Vec<_>>(), [0, 0, 1, 2, 1, 0]);
        assert_eq!(scene.looks.iter().map(|look| look.dotted).collect::<Vec<_>>(), [true, false, false, false, true, false]);
        assert_ne!(scene.looks[1], scene.looks[5], "two runs of one kind differ in their marks");
        let missing = scene.missing("knn", "kNN");
        assert!(missing.as_str().contains("unmix eval knn --run runs/x"), "{missing:?}");
    }

    #[test]
    fn numbers_have_sensible_digits() {
        let words = [0.0, 1.23456, 123.456, 12_345.6, 0.001234, 1.5e-7, f64::NAN].map(|v| digits(v, 3));
        assert_eq!(words, ["0.00", "1.23", "123", "12,346", "0.00123", "1.50e-7", "–"]);
    }
}
