//! Lines over an axis.

use std::fmt::Write;

use super::axis::{Axis, Frame};
use super::figure::{Figure, escape, number};
use super::legend::{self, Sample, line_class, mark_class};
use super::look::Look;

/// A line has no more points than this; more would only make the file larger.
const AT_MOST: usize = 600;
/// Up to so many points each gets a mark; of more, a few.
const MARKED: usize = 30;
/// Lines of more points are drawn finer, because they are noisy.
const FINE: usize = 100;
/// Marks of a long line.
const FEW: usize = 6;
/// Height of the plot area.
const HEIGHT: f64 = 170.0;

/// A single mark with the text of its tooltip.
#[derive(Debug, Clone)]
pub struct Mark {
    /// Where it is.
    pub at: (f64, f64),
    /// What it is.
    pub text: String,
}

/// One line with its marks.
#[derive(Debug, Clone)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// How it is drawn.
    pub look: Look,
    /// The line, from left to right; a value that is not finite interrupts it.
    pub line: Vec<(f64, f64)>,
    /// Marks beside the line; without any, the line's own points are marked.
    pub marks: Vec<Mark>,
}

/// A plot of lines.
#[derive(Debug, Clone)]
pub struct Chart {
    /// Name of the file.
    pub name: String,
    /// The heading.
    pub title: String,
    /// The sentence below.
    pub caption: String,
    /// From left to right.
    pub x: Axis,
    /// From bottom to top.
    pub y: Axis,
    /// The lines.
    pub series: Vec<Series>,
}

impl Chart {
    /// Draws the chart; `None` if nothing in it can be drawn.
    pub fn draw(&self) -> Option<Figure> {
        let lines: Vec<Vec<(f64, f64)>> = self.series.iter().map(|series| thinned(&series.line)).collect();
        let marks = self.series.iter().flat_map(|series| series.marks.iter().map(|mark| mark.at));
        let points: Vec<(f64, f64)> = lines.iter().flatten().copied().chain(marks).filter(|p| p.1.is_finite()).collect();
        if points.is_empty() {
            return None;
        }
        let mut body = String::new();
        let frame = Frame::draw(&mut body, &self.title, (&self.x, &self.y), &points, HEIGHT);
        for (index, (series, line)) in self.series.iter().zip(&lines).enumerate() {
            let _ = writeln!(body, "<g class=\"{}\">", series.look.css());
            draw_line(&mut body, &frame, series, line);
            draw_marks(&mut body, &frame, series, line, index as f64 / self.series.len() as f64);
            body.push_str("</g>\n");
        }
        let entries: Vec<(Look, String)> = self.series.iter().map(|series| (series.look, series.name.clone())).collect();
        let height = legend::draw(&mut body, &entries, Sample::Line, frame.bottom);
        Some(Figure { name: self.name.clone(), label: self.label(), caption: self.caption.clone(), height: height + 4.0, body })
    }

    /// The chart in words: what it shows, and where each line begins and ends.
    fn label(&self) -> String {
        let words = |series: &Series| {
            let mut ends = series.line.iter().filter(|p| p.1.is_finite());
            let ends = ends.clone().next().zip(ends.next_back());
            ends.map(|(a, b)| format!("{} from {} to {}", series.name, short(a.1), short(b.1)))
        };
        let series: Vec<String> = self.series.iter().filter_map(words).collect();
        format!("{}. {} over {}: {}", self.title, self.y.title, self.x.title, series.join("; "))
    }
}

/// A value for tooltips and labels.
fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.1}"),
        v if v >= 0.01 || v == 0.0 => format!("{value:.3}"),
        _ => format!("{value:.2e}"),
    }
}

fn draw_line(out: &mut String, frame: &Frame, series: &Series, line: &[(f64, f64)]) {
    let mut path = String::new();
    let mut pen_down = false;
    for &(x, y) in line {
        let place = frame.x.at(x).zip(frame.y.at(y));
        if let Some((x, y)) = place {
            let _ = write!(path, "{}{} {}", if pen_down { "L" } else { "M" }, number(x), number(y));
        }
        pen_down = place.is_some();
    }
    if !path.is_empty() {
        let (class, name) = (line_class(series.look), escape(&series.name));
        let fine = if line.len() > FINE { " fine" } else { "" };
        let _ = writeln!(out, "<path class=\"{class}{fine}\" d=\"{path}\"><title>{name}</title></path>");
    }
}

/// The series' own marks, or those of its points. Long lines have a few, `shift` (0 to 1) of their distance apart from those of
/// the other lines, and one at each point that no line reaches.
fn draw_marks(out: &mut String, frame: &Frame, series: &Series, line: &[(f64, f64)], shift: f64) {
    let every = if line.len() <= MARKED { 1 } else { line.len() / FEW };
    let offset = (every as f64 * shift) as usize;
    let alone = |index: usize| {
        let gap = |at: Option<&(f64, f64)>| at.is_none_or(|p| !p.1.is_finite());
        gap(index.checked_sub(1).and_then(|before| line.get(before))) && gap(line.get(index + 1))
    };
    let own = line.iter().enumerate().filter(|(index, _)| (index + every - offset).is_multiple_of(every) || alone(*index));
    let own = own.map(|(_, p)| Mark { at: *p, text: format!("{}: {} at {}", series.name, short(p.1), number(p.0)) });
    let marks: Vec<Mark> = if series.marks.is_empty() { own.collect() } else { series.marks.clone() };
    for mark in marks {
        if let Some((x, y)) = frame.x.at(mark.at.0).zip(frame.y.at(mark.at.1)) {
            let (class, path) = (mark_class(series.look), series.look.shape.path(x, y, 2.8));
            let _ = writeln!(out, "<path class=\"{class}\" d=\"{path}\"><title>{}</title></path>", escape(&mark.text));
        }
    }
}

/// At most [`AT_MOST`] points: of each stretch the lowest and the highest, so that no peak is lost, and a gap if it has one.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= AT_MOST {
        return points.to_vec();
    }
    let stretch = |points: &[(f64, f64)]| {
        let finite = points.iter().enumerate().filter(|(_, p)| p.1.is_finite());
        let low = finite.clone().min_by(|a, b| a.1.1.total_cmp(&b.1.1));
        let high = finite.max_by(|a, b| a.1.1.total_cmp(&b.1.1));
        let gap = points.iter().enumerate().find(|(_, p)| !p.1.is_finite());
        let mut kept: Vec<usize> = [low, high, gap].into_iter().flatten().map(|(index, _)| index).collect();
        kept.sort_unstable();
        kept.dedup();
        kept.into_iter().map(|index| points[index]).collect::<Vec<_>>()
    };
    points.chunks(points.len().div_ceil(AT_MOST / 3)).flat_map(stretch).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::plot::Shape;
    use crate::report::plot::scale::Spread;

    fn chart(line: Vec<(f64, f64)>) -> Chart {
        let look = Look { colour: 0, dotted: false, shape: Shape::Circle };
        let series = vec![Series { name: "a<b".into(), look, line, marks: Vec::new() }];
        let (x, y) = (Axis::new("epoch", Spread::Whole), Axis::new("loss", Spread::Linear));
        Chart { name: "loss".into(), title: "Loss".into(), caption: String::new(), x, y, series }
    }

    #[test]
    fn a_long_line_is_thinned_and_keeps_its_peaks_and_gaps() {
        let mut points: Vec<(f64, f64)> = (0..10_000).map(|i| (f64::from(i), f64::from(i % 7))).collect();
        (points[5_000].1, points[7_000].1) = (99.0, f64::NAN);
        let thin = thinned(&points);
        assert!(thin.len() <= AT_MOST && thin.iter().any(|p| p.1 == 99.0) && thin.iter().any(|p| p.1.is_nan()));
        assert!(thin.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn what_is_not_finite_is_a_gap() {
        let figure = chart(vec![(1.0, 3.0), (2.0, 2.0), (3.0, f64::NAN), (4.0, 1.0), (5.0, f64::INFINITY)]).draw().unwrap();
        assert!(!figure.body.contains("NaN") && !figure.body.contains("inf"), "{}", figure.body);
        let line = figure.body.lines().find(|line| line.contains("class=\"line\"")).unwrap();
        assert_eq!(line.matches('M').count(), 2, "{line}");
        assert!(figure.body.contains("a&lt;b") && !figure.body.contains("a<b"));
    }

    #[test]
    fn nothing_gives_no_figure() {
        assert!(chart(Vec::new()).draw().is_none());
        assert!(chart(vec![(1.0, f64::NAN)]).draw().is_none());
        assert!(chart(vec![(1.0, 1.0)]).draw().is_some());
    }
}
