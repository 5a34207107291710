//! From values to positions, with ticks at round numbers.

/// How values are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// Evenly.
    Linear,
    /// Evenly, with ticks at whole numbers only.
    Whole,
    /// By their logarithm; values that are not positive have no place.
    Log,
}

/// A range of values, the positions it is drawn at, and its ticks.
#[derive(Debug, Clone)]
pub struct Scale {
    spread: Spread,
    domain: (f64, f64),
    range: (f64, f64),
    /// Values of the ticks.
    pub ticks: Vec<f64>,
    step: f64,
}

impl Scale {
    /// A scale that holds all finite `values`, with about `count` ticks. A linear one ends at ticks.
    pub fn new(spread: Spread, values: impl Iterator<Item = f64>, count: usize) -> Self {
        let fits = |v: &f64| v.is_finite() && (spread != Spread::Log || *v > 0.0);
        let bounds = values.filter(fits).fold(None, |bounds: Option<(f64, f64)>, v| {
            let (low, high) = bounds.unwrap_or((v, v));
            Some((low.min(v), high.max(v)))
        });
        match (spread, bounds) {
            (Spread::Log, bounds) => Self::log(bounds.unwrap_or((1.0, 10.0)), count),
            (_, bounds) => Self::linear(spread, bounds.unwrap_or((0.0, 1.0)), count),
        }
    }

    fn linear(spread: Spread, (low, high): (f64, f64), count: usize) -> Self {
        let whole = spread == Spread::Whole;
        // A constant still needs a range.
        let pad = if high - low > low.abs().max(high.abs()) * 1e-9 {
            0.0
        } else if low == 0.0 {
            1.0
        } else if whole {
            (low.abs() * 1e-3).max(1.0)
        } else {
            low.abs() * 0.1
        };
        let (low, high) = (low - if low == 0.0 { 0.0 } else { pad }, high + pad);
        let step = nice((high - low) / count.max(1) as f64, whole);
        let (first, last) = ((low / step + 1e-9).floor(), (high / step - 1e-9).ceil());
        let ticks = (0..=(last - first) as usize).map(|index| (first + index as f64) * step).collect();
        Self { spread, domain: (first * step, last * step), range: (0.0, 1.0), ticks, step }
    }

    fn log((low, high): (f64, f64), count: usize) -> Self {
        let (low, high) = if high / low < 1.2 { (low / 2.0, high * 2.0) } else { (low, high) };
        let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
        let decades = (last - first).max(1) as usize;
        let parts: &[f64] = if high / low <= 1000.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let stride = decades.div_ceil(count.max(1));
        let ticks = (first..=last).filter(|power| power.rem_euclid(stride as i32) == 0);
        let ticks = ticks.flat_map(|power| parts.iter().map(move |part| part * 10f64.powi(power)));
        let ticks = ticks.filter(|tick| (low * 0.999..=high * 1.001).contains(tick)).collect();
        Self { spread: Spread::Log, domain: (low, high), range: (0.0, 1.0), ticks, step: 0.0 }
    }

    /// The scale drawn between two positions.
    #[must_use]
    pub fn over(mut self, from: f64, to: f64) -> Self {
        self.range = (from, to);
        self
    }

    /// The position of a value; `None` for what cannot be drawn.
    pub fn at(&self, value: f64) -> Option<f64> {
        let log = self.spread == Spread::Log;
        if !value.is_finite() || log && value <= 0.0 {
            return None;
        }
        let place = |v: f64| if log { v.ln() } else { v };
        let (low, high) = (place(self.domain.0), place(self.domain.1));
        Some(self.range.0 + (place(value) - low) / (high - low) * (self.range.1 - self.range.0))
    }

    /// The text of a tick.
    pub fn label(&self, tick: f64) -> String {
        if self.spread == Spread::Log { power(tick) } else { linear_label(tick, self.step) }
    }
}

/// The smallest of 1, 2, 2.5, 5 times a power of ten that is at least `step`.
fn nice(step: f64, whole: bool) -> f64 {
    let step = if whole { step.max(1.0) } else { step };
    let unit = 10f64.powf(step.log10().floor());
    let factors: &[f64] = if whole { &[1.0, 2.0, 5.0] } else { &[1.0, 2.0, 2.5, 5.0] };
    factors.iter().find(|factor| *factor * unit >= step * (1.0 - 1e-9)).unwrap_or(&10.0) * unit
}

fn linear_label(tick: f64, step: f64) -> String {
    if tick.abs() < step * 1e-6 {
        return "0".into();
    }
    if step < 1e-4 || tick.abs() >= 1e6 {
        return scientific(tick);
    }
    let decimals = (0..8).find(|d| ((step * 10f64.powi(*d)).round() - step * 10f64.powi(*d)).abs() < 1e-6).unwrap_or(8) as usize;
    grouped(tick, decimals).replace('-', "\u{2212}")
}

fn scientific(value: f64) -> String {
    let power = value.abs().log10().floor() as i32;
    let text = format!("{:.2}", value / 10f64.powi(power));
    format!("{}e{power}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// `12,345.6`
pub fn grouped(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let (whole, rest) = text.split_once('.').map_or((text.as_str(), String::new()), |(whole, rest)| (whole, format!(".{rest}")));
    let mut out = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    let sign = if value < 0.0 { "-" } else { "" };
    format!("{sign}{out}{rest}")
}

/// A tick of a logarithmic scale: `0.01`, `100`, `10⁻⁵`.
fn power(tick: f64) -> String {
    let exponent = tick.log10().floor() as i32;
    if (-2..=4).contains(&exponent) {
        return linear_label(tick, 10f64.powi(exponent));
    }
    let raised: String = exponent.to_string().chars().map(superscript).collect();
    match (tick / 10f64.powi(exponent)).round() {
        1.0 => format!("10{raised}"),
        factor => format!("{factor}·10{raised}"),
    }
}

fn superscript(digit: char) -> char {
    match digit {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        '0'..='9' => char::from_u32('⁰' as u32 + digit as u32 - '0' as u32).unwrap_or(digit),
        _ => digit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(spread: Spread, values: &[f64], count: usize) -> Vec<String> {
        let scale = Scale::new(spread, values.iter().copied(), count);
        scale.ticks.iter().map(|tick| scale.label(*tick)).collect()
    }

    #[test]
    fn ticks_are_round_and_enclose_the_values() {
        assert_eq!(labels(Spread::Linear, &[0.13, 0.97], 5), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(Spread::Whole, &[1.0, 3.0], 5), ["1", "2", "3"]);
        assert_eq!(labels(Spread::Linear, &[-20.0, 12_000.0], 3), ["−5,000", "0", "5,000", "10,000", "15,000"].map(String::from));
        assert_eq!(labels(Spread::Linear, &[0.0, 3e-5], 3), ["0", "1e-5", "2e-5", "3e-5"]);
        assert_eq!(labels(Spread::Log, &[1e-6, 0.3], 4), ["10⁻⁶", "10⁻⁴", "0.01"]);
        assert_eq!(labels(Spread::Log, &[20.0, 300.0], 5), ["20", "50", "100", "200"]);
    }

    #[test]
    fn constants_and_nothing_have_a_scale() {
        for values in [vec![], vec![f64::NAN], vec![0.0], vec![7.0, 7.0], vec![-3.0], vec![1e-300], vec![1e300]] {
            for spread in [Spread::Linear, Spread::Whole, Spread::Log] {
                let scale = Scale::new(spread, values.iter().copied(), 5).over(0.0, 100.0);
                assert!(scale.ticks.len() < 30, "{spread:?} {values:?}");
                for value in values.iter().filter_map(|v| scale.at(*v)) {
                    assert!((-1e-6..=100.0 + 1e-6).contains(&value), "{spread:?} {values:?} {value}");
                }
            }
        }
    }

    #[test]
    fn what_has_no_place_is_left_out() {
        let log = Scale::new(Spread::Log, [1.0, 100.0].into_iter(), 3).over(0.0, 10.0);
        assert_eq!([1.0, 10.0, 100.0].map(|v| log.at(v).map(f64::round)), [Some(0.0), Some(5.0), Some(10.0)]);
        assert_eq!([0.0, -1.0, f64::NAN, f64::INFINITY].map(|v| log.at(v)), [None; 4]);
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!([grouped(1234.0, 0), grouped(12345.6, 1), grouped(-1_234_567.0, 0)], ["1,234", "12,345.6", "-1,234,567"]);
    }
}
