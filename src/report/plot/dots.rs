//! A dot plot: one row for each class, one mark for each run.

use std::fmt::Write;

use super::figure::{Figure, WIDTH, escape, number, shortened, text, text_width};
use super::legend::{self, Sample, mark_class};
use super::look::Look;
use super::scale::{Scale, Spread};

/// Height of a row.
const ROW: f64 = 17.0;
/// The widest that names of rows may get.
const NAMES: f64 = 110.0;

/// A dot plot.
#[derive(Debug, Clone)]
pub struct Dots {
    /// Name of the file.
    pub name: String,
    /// The heading.
    pub title: String,
    /// The sentence below.
    pub caption: String,
    /// Name of the axis with its unit.
    pub axis: String,
    /// Names of the rows, from the top.
    pub rows: Vec<String>,
    /// What is compared: name, look, a value for each row.
    pub series: Vec<(String, Look, Vec<f64>)>,
}

impl Dots {
    /// Draws the plot; `None` if nothing in it can be drawn.
    pub fn draw(&self) -> Option<Figure> {
        let values = || self.series.iter().flat_map(|(_, _, values)| values.iter().copied());
        if self.rows.is_empty() || !values().any(f64::is_finite) {
            return None;
        }
        let widest = self.rows.iter().map(|row| text_width(row)).fold(0.0, f64::max).min(NAMES);
        let (left, top) = (widest + 14.0, 24.0);
        let base = top + ROW * self.rows.len() as f64 + 4.0;
        let x = Scale::new(Spread::Linear, values(), 5).over(left, WIDTH - 14.0);
        let mut body = String::new();
        text(&mut body, "title", [4.0, 14.0], &self.title);
        for tick in &x.ticks {
            let Some(at) = x.at(*tick) else { continue };
            let _ = writeln!(body, "<path class=\"grid\" d=\"M{} {}V{}\"/>", number(at), number(top), number(base));
            text(&mut body, "soft middle", [at, base + 13.0], &x.label(*tick));
        }
        text(&mut body, "soft middle", [(left + WIDTH) / 2.0 - 7.0, base + 29.0], &self.axis);
        for (index, row) in self.rows.iter().enumerate() {
            self.row(&mut body, &x, index, [left, top + ROW * (index as f64 + 0.5) + 2.0], &shortened(row, NAMES));
        }
        let entries: Vec<(Look, String)> = self.series.iter().map(|(name, look, _)| (*look, name.clone())).collect();
        let height = legend::draw(&mut body, &entries, Sample::Mark, base + 36.0);
        let runs: Vec<&str> = self.series.iter().map(|(name, ..)| name.as_str()).collect();
        let label = format!("{}. {} of {} classes: {}", self.title, self.axis, self.rows.len(), runs.join("; "));
        Some(Figure { name: self.name.clone(), label, caption: self.caption.clone(), height: height + 4.0, body })
    }

    /// One row: its name, a line from the lowest to the highest value, the marks.
    fn row(&self, out: &mut String, x: &Scale, index: usize, [left, y]: [f64; 2], name: &str) {
        text(out, "end", [left - 8.0, y + 4.0], name);
        let places: Vec<f64> = self.series.iter().filter_map(|(_, _, values)| x.at(*values.get(index)?)).collect();
        let (low, high) = places.iter().fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(*v), high.max(*v)));
        if high > low {
            let _ = writeln!(out, "<path class=\"axis\" d=\"M{} {y}H{}\"/>", number(low), number(high), y = number(y));
        }
        for (run, look, values) in &self.series {
            let Some((value, at)) = values.get(index).and_then(|v| Some((v, x.at(*v)?))) else { continue };
            let (class, colour, path) = (mark_class(*look), look.css(), look.shape.path(at, y, 4.0));
            let title = escape(&format!("{run}, {name}: {value:.1}"));
            let _ = writeln!(out, "<path class=\"{class} {colour}\" d=\"{path}\"><title>{title}</title></path>");
        }
    }
}
