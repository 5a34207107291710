//! Small figures as SVG text: axes, lines, marks. Colours are CSS variables, so that a figure inside the report's page follows its
//! theme; a figure on its own carries the light theme as plain values.
//!
//! Figures are 360 units wide: at that width text is readable on a phone, and two or three stand side by side on a desk.

pub mod axis;
pub mod chart;
pub mod dots;
pub mod figure;
pub mod legend;
pub mod look;
pub mod map;
pub mod scale;
pub mod theme;

pub use axis::Axis;
pub use chart::{Chart, Mark, Series};
pub use figure::Figure;
pub use look::{Look, Shape};
