//! Which look means what.

use std::fmt::Write;

use super::figure::{TEXT, WIDTH, number, shortened, text, text_width};
use super::look::Look;

/// What the sample before a name shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sample {
    /// A piece of line with its mark.
    Line,
    /// The mark alone.
    Mark,
}

/// Height of a row.
const ROW: f64 = 16.0;

/// Draws names with their looks in rows from `top` on, as many to a row as fit. Returns where the next thing can be drawn.
pub fn draw(out: &mut String, entries: &[(Look, String)], sample: Sample, top: f64) -> f64 {
    let lead = if sample == Sample::Line { 30.0 } else { 14.0 };
    let (mut x, mut y) = (4.0, top + 12.0);
    for (look, name) in entries {
        let name = shortened(name, WIDTH - lead - 8.0);
        let width = lead + text_width(&name) + 14.0;
        if x > 4.0 && x + width > WIDTH + 10.0 {
            (x, y) = (4.0, y + ROW);
        }
        entry(out, *look, sample, [x, y]);
        text(out, "", [x + lead, y], &name);
        x += width;
    }
    if entries.is_empty() { top } else { y + ROW - TEXT + 2.0 }
}

fn entry(out: &mut String, look: Look, sample: Sample, [x, y]: [f64; 2]) {
    let middle = y - 4.0;
    let _ = write!(out, "<g class=\"{}\">", look.css());
    if sample == Sample::Line {
        let _ = write!(out, "<path class=\"{}\" d=\"M{} {}h24\"/>", line_class(look), number(x), number(middle));
    }
    let centre = if sample == Sample::Line { x + 12.0 } else { x + 5.0 };
    let _ = writeln!(out, "<path class=\"{}\" d=\"{}\"/></g>", mark_class(look), look.shape.path(centre, middle, 3.4));
}

/// The CSS classes of a line.
pub fn line_class(look: Look) -> &'static str {
    if look.dotted { "line dotted" } else { "line" }
}

/// The CSS class of a mark.
pub fn mark_class(look: Look) -> &'static str {
    if look.dotted { "open" } else { "mark" }
}
