//! How values are distributed.

use serde::{Deserialize, Serialize};

/// A histogram of the values around their mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// Values in all.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation (divided by their number).
    pub std: f64,
    /// Where the first bin begins.
    pub low: f64,
    /// Where the last bin ends.
    pub high: f64,
    /// Values in each of the bins, which are of one width.
    pub bins: Vec<u64>,
    /// Values beyond the bins, or that are not finite.
    pub outside: u64,
}

/// Bins of a histogram.
pub const BINS: usize = 64;
/// Standard deviations on either side of the mean that the bins cover: nearly all of a normal distribution, while a single large value leaves
/// the others their bins.
pub const REACH: f64 = 4.0;

impl Histogram {
    /// Of some values. Mean, deviation and bins are those of the finite ones; without any, they are NaN and empty.
    pub fn of(values: impl Iterator<Item = f32> + Clone) -> Self {
        let finite = values.clone().filter(|value| value.is_finite()).map(f64::from);
        let (count, n) = (values.count(), finite.clone().count());
        let mean = finite.clone().sum::<f64>() / n as f64;
        // In a second pass: a difference of large sums would lose digits.
        let std = (finite.clone().map(|value| (value - mean).powi(2)).sum::<f64>() / n as f64).sqrt();
        // Equal values have no width to divide.
        let reach = if std > 0.0 { REACH * std } else { 1.0 };
        let (low, high) = (mean - reach, mean + reach);
        let mut bins = vec![0; BINS];
        for value in finite.filter(|value| (low..=high).contains(value)) {
            let place = (value - low) / (high - low) * BINS as f64;
            bins[(place as usize).min(BINS - 1)] += 1;
        }
        let outside = count as u64 - bins.iter().sum::<u64>();
        Self { count, mean, std, low, high, bins, outside }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{close, normal_rows};
    use super::*;

    #[test]
    fn every_value_is_in_its_bin_or_outside() {
        // Mean 0, deviation 1: the bins are 1/8 wide and begin at -4.
        let got = Histogram::of([-1.0f32, 1.0, -1.0, 1.0].into_iter());
        assert_eq!((got.count, got.mean, got.std, got.low, got.high, got.outside), (4, 0.0, 1.0, -4.0, 4.0, 0));
        let filled: Vec<(usize, u64)> = got.bins.iter().copied().enumerate().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(24, 2), (40, 2)]);
        let far = Histogram::of((0..100).map(|i| if i == 0 { 1e3 } else { (i % 2) as f32 }).chain([f32::NAN]));
        assert_eq!((far.count, far.outside, far.bins.iter().sum::<u64>()), (101, 2, 99));
    }

    #[test]
    fn normal_values_make_the_normal_curve() {
        let rows = normal_rows(400, 500, false);
        let got = Histogram::of(rows.iter().flatten().copied());
        close(got.mean, 0.0, 0.01);
        close(got.std, 1.0, 0.01);
        // 2 (1 - Phi(4)) = 6.3e-5 of 200,000 values are 13.
        assert!(got.outside < 40, "{}", got.outside);
        let density = |bin: usize| got.bins[bin] as f64 / got.count as f64 / ((got.high - got.low) / BINS as f64);
        // The binomial deviation of a bin of .05 of 200,000 values is 1 % of its height.
        close(density(32), 0.398, 0.02);
        close(density(40), 0.2275, 0.02);
    }

    #[test]
    fn equal_values_and_none_have_a_histogram() {
        let same = Histogram::of([0.5f32; 7].into_iter());
        assert_eq!((same.std, same.bins[BINS / 2], same.outside), (0.0, 7, 0));
        let none = Histogram::of(std::iter::empty::<f32>());
        assert!(none.count == 0 && none.mean.is_nan() && none.bins.iter().all(|&count| count == 0));
    }
}
