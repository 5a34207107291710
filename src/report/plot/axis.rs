//! The frame of a plot: title, grid, ticks, the names of the axes.

use std::fmt::Write;

use super::figure::{WIDTH, number, text, text_width};
use super::scale::{Scale, Spread};

/// What an axis shows.
#[derive(Debug, Clone)]
pub struct Axis {
    /// Its name with its unit.
    pub title: String,
    /// How values are spread.
    pub spread: Spread,
    /// Values the axis must show beside those of the data.
    pub include: Vec<f64>,
}

impl Axis {
    /// An axis from the data alone.
    pub fn new(title: impl Into<String>, spread: Spread) -> Self {
        Self { title: title.into(), spread, include: Vec::new() }
    }

    /// An axis that shows `value` too.
    #[must_use]
    pub fn with(mut self, value: f64) -> Self {
        self.include.push(value);
        self
    }
}

/// The scales of a plot, and where its area is.
#[derive(Debug, Clone)]
pub struct Frame {
    /// From left to right.
    pub x: Scale,
    /// From bottom to top.
    pub y: Scale,
    /// Where the next thing below the axis can be drawn.
    pub bottom: f64,
}

/// Where the plot area begins below title and axis name.
const TOP: f64 = 44.0;
/// The least that is free at its right; the last tick's text may need more.
const RIGHT: f64 = 14.0;

impl Frame {
    /// Draws title, grid, ticks and names around a plot area of the given height that has a place for all `points`.
    pub fn draw(out: &mut String, title: &str, axes: (&Axis, &Axis), points: &[(f64, f64)], height: f64) -> Self {
        let values = |axis: &Axis, pick: fn(&(f64, f64)) -> f64, count| {
            let all = points.iter().map(pick).chain(axis.include.iter().copied());
            Scale::new(axis.spread, all.collect::<Vec<_>>().into_iter(), count)
        };
        let y = values(axes.1, |p| p.1, 5);
        let widest = y.ticks.iter().map(|tick| text_width(&y.label(*tick))).fold(0.0, f64::max);
        let x = values(axes.0, |p| p.0, 6);
        let last = x.ticks.last().map_or(0.0, |tick| text_width(&x.label(*tick)) / 2.0 + 2.0);
        let (left, right) = ((widest + 10.0).max(24.0), WIDTH - last.max(RIGHT));
        let base = TOP + height;
        let frame = Self { x: x.over(left, right), y: y.over(base, TOP), bottom: base + 36.0 };
        text(out, "title", [4.0, 14.0], title);
        text(out, "soft", [4.0, 30.0], &axes.1.title);
        text(out, "soft middle", [(left + right) / 2.0, base + 30.0], &axes.0.title);
        frame.grid(out, [left, right], base);
        frame
    }

    fn grid(&self, out: &mut String, [left, right]: [f64; 2], base: f64) {
        let (l, r, b) = (number(left), number(right), number(base));
        for tick in &self.y.ticks {
            let Some(at) = self.y.at(*tick) else { continue };
            let _ = writeln!(out, "<path class=\"grid\" d=\"M{l} {at}H{r}\"/>", at = number(at));
            text(out, "soft end", [left - 6.0, at + 4.0], &self.y.label(*tick));
        }
        let _ = writeln!(out, "<path class=\"axis\" d=\"M{l} {b}H{r}\"/>");
        let mut free = f64::NEG_INFINITY;
        for tick in &self.x.ticks {
            let Some(at) = self.x.at(*tick) else { continue };
            let _ = writeln!(out, "<path class=\"axis\" d=\"M{} {b}v4\"/>", number(at));
            let (label, half) = (self.x.label(*tick), text_width(&self.x.label(*tick)) / 2.0);
            // A crowded axis names fewer of its ticks.
            if at - half > free {
                text(out, "soft middle", [at, base + 15.0], &label);
                free = at + half + 4.0;
            }
        }
    }
}
