//! The figures of a series of samples.

use serde::{Deserialize, Serialize};

/// The middle of some samples, and the range of the middle half.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    pub low: f64,
    pub median: f64,
    pub high: f64,
}

impl Spread {
    /// Returns the median and the quartiles.
    pub fn of(samples: &[f64]) -> Self {
        let sorted = sorted(samples);
        Self {
            low: quantile(&sorted, 0.25),
            median: quantile(&sorted, 0.5),
            high: quantile(&sorted, 0.75),
        }
    }

    /// Returns the median, and an interval that contains the true one with a probability of at
    /// least 95 %, if there are six samples or more.
    ///
    /// The ends are samples, so this assumes nothing about their distribution.
    pub fn with_confidence(samples: &[f64]) -> Self {
        let sorted = sorted(samples);
        let n = sorted.len() as f64;
        let rank = (n / 2.0 - 0.98 * n.sqrt()).floor().max(0.0) as usize;
        Self {
            low: sorted[rank],
            median: quantile(&sorted, 0.5),
            high: sorted[sorted.len() - 1 - rank],
        }
    }

    /// Returns the spread of one figure, which has none.
    pub fn exact(figure: f64) -> Self {
        Self {
            low: figure,
            median: figure,
            high: figure,
        }
    }
}

/// Returns the median of samples.
pub fn median(samples: &[f64]) -> f64 {
    quantile(&sorted(samples), 0.5)
}

/// Returns the quantile of sorted samples, between two samples if it lies there.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, above) = (place.floor(), place.ceil());
    let (low, high) = (sorted[below as usize], sorted[above as usize]);
    low + (high - low) * (place - below)
}

/// Returns the samples in ascending order.
pub fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Returns the exponent of a growth: 1 for a cost in proportion to the size, 2 for its square.
///
/// Each point is a size and its cost.
pub fn growth(small: (f64, f64), large: (f64, f64)) -> f64 {
    (large.1 / small.1).ln() / (large.0 / small.0).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_two_samples() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
    }

    #[test]
    fn the_quartiles_enclose_the_middle_half() {
        let spread = Spread::of(&[5.0, 1.0, 2.0, 4.0, 3.0]);
        let expected = Spread {
            low: 2.0,
            median: 3.0,
            high: 4.0,
        };
        assert_eq!(spread, expected);
    }

    #[test]
    fn the_confidence_interval_leaves_out_the_outliers_of_a_long_series() {
        let mut samples: Vec<f64> = (0..100).map(f64::from).collect();
        samples[99] = 1e9;
        let spread = Spread::with_confidence(&samples);
        assert_eq!((spread.low, spread.high), (40.0, 59.0));
    }

    #[test]
    fn a_short_series_is_its_own_confidence_interval() {
        let spread = Spread::with_confidence(&[2.0, 1.0, 3.0]);
        assert_eq!((spread.low, spread.high), (1.0, 3.0));
    }

    #[test]
    fn growth_is_the_exponent_of_the_size() {
        assert!((growth((10.0, 3.0), (100.0, 30.0)) - 1.0).abs() < 1e-9);
        assert!((growth((2.0, 4.0), (6.0, 36.0)) - 2.0).abs() < 1e-9);
    }
}
