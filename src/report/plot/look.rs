//! How a series or a class looks: colour, line, mark.

use super::figure::number;
use super::theme::COLOURS;

/// The form of a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A disc.
    Circle,
    /// A square.
    Square,
    /// A triangle that points up.
    Up,
    /// A square on its corner.
    Diamond,
    /// A triangle that points down.
    Down,
    /// An upright cross.
    Plus,
}

/// All forms, in the order they are given out.
pub const SHAPES: [Shape; 6] = [Shape::Circle, Shape::Square, Shape::Up, Shape::Diamond, Shape::Down, Shape::Plus];

impl Shape {
    /// The form number `index`, starting over after the last.
    pub fn nth(index: usize) -> Self {
        SHAPES[index % SHAPES.len()]
    }

    /// The path of a mark; all forms of the same `r` look equally large.
    pub fn path(self, x: f64, y: f64, r: f64) -> String {
        let corners = |corners: &[(f64, f64)]| {
            let at = |&(dx, dy): &(f64, f64)| format!("{} {}", number(x + dx * r), number(y + dy * r));
            format!("M{}Z", corners.iter().map(at).collect::<Vec<_>>().join("L"))
        };
        match self {
            Self::Circle => {
                let (left, r, d) = (number(x - r), number(r), number(2.0 * r));
                format!("M{left} {}a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0 -{d} 0Z", number(y))
            }
            Self::Square => corners(&[(-0.89, -0.89), (0.89, -0.89), (0.89, 0.89), (-0.89, 0.89)]),
            Self::Up => corners(&[(0.0, -1.3), (1.2, 0.8), (-1.2, 0.8)]),
            Self::Down => corners(&[(0.0, 1.3), (1.2, -0.8), (-1.2, -0.8)]),
            Self::Diamond => corners(&[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)]),
            Self::Plus => {
                let (a, b) = (0.45, 1.35);
                let (upper, lower) = (
                    [(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a)],
                    [(a, b), (-a, b), (-a, a), (-b, a), (-b, -a), (-a, -a)],
                );
                corners(&[upper, lower].concat())
            }
        }
    }
}

/// Colour, line and mark of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Index of the colour.
    pub colour: usize,
    /// A dotted line and open marks, the paper's way to draw a baseline; otherwise solid and filled.
    pub dotted: bool,
    /// The form of its marks.
    pub shape: Shape,
}

impl Look {
    /// The look of a class of images. Neighbours differ in form as well as in colour, for paper without colours; the looks repeat
    /// after 30 classes.
    pub fn class(index: usize) -> Self {
        Self { colour: index % COLOURS, dotted: false, shape: Shape::nth(index + index / COLOURS) }
    }

    /// The CSS class of the colour.
    pub fn css(self) -> String {
        format!("k{}", self.colour % COLOURS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirty_classes_look_different() {
        let looks: Vec<Look> = (0..30).map(Look::class).collect();
        for (index, look) in looks.iter().enumerate() {
            assert!(!looks[..index].contains(look), "class {index}");
        }
    }
}
