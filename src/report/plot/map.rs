//! Points in a plane with the colours of their classes, or the images themselves.

use std::fmt::Write;

use super::figure::{Figure, WIDTH, escape, number, text, text_width};
use super::legend::{self, Sample};
use super::look::Look;

/// More points than this are not drawn: the figure would get slow, and no fuller.
const AT_MOST: usize = 4_000;
/// Classes of which the names are written into the figure and below it.
const NAMED: usize = 20;
/// Fewer points of a class would be hidden by its name.
const LEAST_NAMED: usize = 10;
/// Edge of the plot area.
const EDGE: f64 = WIDTH - 8.0;
const TOP: f64 = 40.0;
/// Images to a row.
const TILES: usize = 15;

/// An embedding in the plane.
#[derive(Debug, Clone)]
pub struct Map {
    /// Name of the file.
    pub name: String,
    /// The heading.
    pub title: String,
    /// The line below the heading: what the axes are.
    pub axes: String,
    /// The sentence below.
    pub caption: String,
    /// One point for each image.
    pub points: Vec<(f64, f64)>,
    /// The class of each image, as an index into `classes`; may be shorter than `points`.
    pub labels: Vec<usize>,
    /// Names of the classes.
    pub classes: Vec<String>,
}

/// An image at a place of the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    /// Index of the point.
    pub point: usize,
    /// The cell it is drawn in, from the left and from the top.
    pub cell: (usize, usize),
}

impl Map {
    /// Draws the points; `None` if there is none.
    pub fn draw(&self) -> Option<Figure> {
        let places = self.places();
        let mut classes: Vec<usize> = places.iter().map(|(index, ..)| self.class(*index)).collect();
        classes.sort_unstable();
        classes.dedup();
        let mut body = self.head(&places)?;
        for class in &classes {
            let look = Look::class(*class);
            let of_class = places.iter().filter(|(index, ..)| self.class(*index) == *class);
            let path: String = of_class.map(|(_, x, y)| look.shape.path(*x, *y, 1.9)).collect();
            let name = escape(&self.class_name(*class));
            let _ = writeln!(body, "<path class=\"point {}\" d=\"{path}\"><title>{name}</title></path>", look.css());
        }
        let enough = |class: &usize| places.iter().filter(|(index, ..)| self.class(*index) == *class).count() >= LEAST_NAMED;
        if classes.len() > 1 && classes.len() <= NAMED && classes.iter().all(enough) {
            self.names(&mut body, &places, &classes);
        }
        let entries: Vec<(Look, String)> = classes.iter().map(|class| (Look::class(*class), self.class_name(*class))).collect();
        let shown = if self.classes.is_empty() { &[] } else { &entries[..entries.len().min(NAMED)] };
        let mut height = legend::draw(&mut body, shown, Sample::Mark, TOP + EDGE + 4.0);
        if shown.len() < entries.len() && !shown.is_empty() {
            text(&mut body, "soft", [4.0, height + 10.0], &format!("and {} more classes", entries.len() - shown.len()));
            height += 16.0;
        }
        Some(self.figure(body, height))
    }

    /// Draws images in place of points. `href` is the data URI of a strip with the images of `tiles`, in that order.
    pub fn draw_tiles(&self, tiles: &[Tile], href: &str) -> Option<Figure> {
        let mut body = self.head(&self.places())?;
        let (edge, count) = (EDGE / TILES as f64, tiles.len());
        let _ = writeln!(body, "<defs><image id=\"{}-strip\" href=\"{href}\" width=\"{count}\" height=\"1\"/></defs>", self.name);
        for (index, tile) in tiles.iter().enumerate() {
            let (x, y) = (4.0 + edge * tile.cell.0 as f64, TOP + edge * tile.cell.1 as f64);
            let (x, y, size) = (number(x + 1.5), number(y + 1.5), number(edge - 3.0));
            let (class, place) =
                (Look::class(self.class(tile.point)).css(), format!("x=\"{x}\" y=\"{y}\" width=\"{size}\" height=\"{size}\""));
            let name = escape(&self.class_name(self.class(tile.point)));
            let _ = writeln!(
                body,
                "<svg {place} viewBox=\"{index} 0 1 1\"><use href=\"#{}-strip\"/></svg><rect class=\"tile {class}\" {place}><title>{name}</title></rect>",
                self.name
            );
        }
        Some(self.figure(body, TOP + EDGE + 4.0))
    }

    /// One image for each cell of a grid that has any: the one nearest to the cell's centre, so that images do not hide each other.
    pub fn tiles(&self) -> Vec<Tile> {
        let mut nearest = vec![None::<(f64, usize)>; TILES * TILES];
        let edge = EDGE / TILES as f64;
        for (point, x, y) in self.places() {
            let (column, row) = ((x - 4.0) / edge, (y - TOP) / edge);
            let cell = [column, row].map(|at| (at as usize).min(TILES - 1));
            let distance = (column - cell[0] as f64 - 0.5).hypot(row - cell[1] as f64 - 0.5);
            let best = &mut nearest[cell[1] * TILES + cell[0]];
            if best.is_none_or(|(least, _)| distance < least) {
                *best = Some((distance, point));
            }
        }
        let cells = nearest.into_iter().enumerate();
        cells.filter_map(|(cell, best)| Some(Tile { point: best?.1, cell: (cell % TILES, cell / TILES) })).collect()
    }

    /// Index and position of the points that are drawn.
    fn places(&self) -> Vec<(usize, f64, f64)> {
        let finite = |p: &(f64, f64)| p.0.is_finite() && p.1.is_finite();
        let kept: Vec<usize> = (0..self.points.len()).filter(|index| finite(&self.points[*index])).collect();
        let range = |pick: fn(&(f64, f64)) -> f64| {
            let values = kept.iter().map(|index| pick(&self.points[*index]));
            values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)))
        };
        let ((x0, x1), (y0, y1)) = (range(|p| p.0), range(|p| p.1));
        // One unit is as long in both directions: distances are what the map shows.
        let span = (x1 - x0).max(y1 - y0).max(f64::MIN_POSITIVE);
        let place = |value: f64, low: f64, high: f64| 8.0 + (EDGE - 16.0) * (0.5 + (value - (low + high) / 2.0) / span);
        let every = kept.len().div_ceil(AT_MOST).max(1);
        let at =
            |index: usize| (index, 4.0 + place(self.points[index].0, x0, x1), TOP + EDGE - place(self.points[index].1, y0, y1));
        kept.into_iter().step_by(every).map(at).collect()
    }

    fn head(&self, places: &[(usize, f64, f64)]) -> Option<String> {
        let mut body = String::new();
        text(&mut body, "title", [4.0, 14.0], &self.title);
        text(&mut body, "soft", [4.0, 30.0], &self.axes);
        let (edge, top) = (number(EDGE), number(TOP));
        let _ = writeln!(body, "<rect class=\"grid\" x=\"4\" y=\"{top}\" width=\"{edge}\" height=\"{edge}\"/>");
        (!places.is_empty()).then_some(body)
    }

    /// The names of the classes at the medians of their points; where two would meet, the lower one moves down.
    fn names(&self, out: &mut String, places: &[(usize, f64, f64)], classes: &[usize]) {
        let mut names: Vec<(f64, f64, String)> = classes.iter().map(|class| self.centre(places, *class)).collect();
        names.sort_by(|a, b| a.1.total_cmp(&b.1));
        for index in 0..names.len() {
            let (before, rest) = names.split_at_mut(index);
            let (x, y, name) = &mut rest[0];
            // Names are bold, hence wider.
            let half = text_width(name) * 0.56 + 4.0;
            *x = x.clamp(half, WIDTH - half);
            for (bx, by, other) in before.iter() {
                let meets = (*bx - *x).abs() < half + text_width(other) * 0.56 + 4.0 && (*by - *y).abs() < 12.0;
                *y = if meets { by + 12.0 } else { *y };
            }
            text(out, "halo", [*x, *y], name);
        }
    }

    fn centre(&self, places: &[(usize, f64, f64)], class: usize) -> (f64, f64, String) {
        let median = |pick: fn(&(usize, f64, f64)) -> f64| {
            let mut values: Vec<f64> = places.iter().filter(|(index, ..)| self.class(*index) == class).map(pick).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        (median(|p| p.1), median(|p| p.2) + 4.0, self.class_name(class))
    }

    fn class(&self, point: usize) -> usize {
        self.labels.get(point).copied().unwrap_or(0)
    }

    fn class_name(&self, class: usize) -> String {
        self.classes.get(class).cloned().unwrap_or_else(|| format!("class {class}"))
    }

    fn figure(&self, body: String, height: f64) -> Figure {
        let label = format!("{}. {}: {} images of {} classes", self.title, self.axes, self.points.len(), self.classes.len());
        Figure { name: self.name.clone(), label, caption: self.caption.clone(), height: height + 4.0, body }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(points: Vec<(f64, f64)>) -> Map {
        let labels = (0..points.len()).map(|index| index % 3).collect();
        let classes = ["cat", "dog", "<b>"].map(String::from).to_vec();
        let words = || "m".to_owned();
        Map { name: words(), title: words(), axes: words(), caption: words(), points, labels, classes }
    }

    #[test]
    fn every_class_is_drawn_and_named() {
        let figure = map(vec![(0.0, 1.0), (2.0, 3.0), (4.0, 5.0), (f64::NAN, 0.0)]).draw().unwrap();
        assert_eq!(figure.body.matches("class=\"point").count(), 3);
        assert!(figure.body.contains("&lt;b&gt;") && !figure.body.contains("NaN"), "{}", figure.body);
        assert!(map(vec![(f64::NAN, 0.0)]).draw().is_none());
        assert!(map(vec![(1.0, 1.0), (1.0, 1.0)]).draw().is_some(), "all at one place");
    }

    #[test]
    fn tiles_do_not_overlap_and_lie_inside() {
        let map = map((0..5000).map(|i| (f64::from(i % 71), f64::from(i % 53))).collect());
        let tiles = map.tiles();
        let mut cells: Vec<_> = tiles.iter().map(|tile| tile.cell).collect();
        cells.sort_unstable();
        cells.dedup();
        assert!(tiles.len() == cells.len() && tiles.len() > 100 && cells.iter().all(|cell| cell.0 < TILES && cell.1 < TILES));
    }
}
