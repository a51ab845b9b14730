//! A row of the table: one comparison.

use serde::{Deserialize, Serialize};

use crate::figures::{Spread, growth};
use crate::placement::Placement;
use crate::target::{Target, Verdict};

/// The meaning of the figure of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Figure {
    /// The peer's time divided by ours: more is better.
    Speed,
    /// Our time divided by the peer's: less is better.
    Time,
    /// Milliseconds of ours.
    Milliseconds,
    /// Mebibytes of ours.
    Mebibytes,
    /// The share of our time that the client computes.
    ClientShare,
    /// The exponent of the growth of our time.
    Growth,
}

/// The part of a spread that is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Judged {
    /// The median; the ends are the quartiles.
    Median,
    /// The better end: the ends are a confidence interval, which has to include the target.
    BetterEnd,
}

/// One comparison, and what is expected of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[must_use = "a row is shown only if the work returns it"]
pub struct Row {
    /// The title of the measured work.
    pub work: String,
    /// The peer that the figure refers to.
    pub peer: Option<String>,
    pub figure: Figure,
    pub spread: Spread,
    pub judged: Judged,
    /// The median seconds of ours and of the peer.
    pub seconds: Option<(f64, f64)>,
    /// The number of rounds.
    pub rounds: usize,
    pub target: Option<Target>,
    /// The figure at which a miss of the target was admitted.
    pub known_gap: Option<f64>,
    /// The CPUs of the server and the client.
    pub placement: Placement,
}

impl Row {
    /// Returns a row without a peer and a target.
    pub fn new(work: impl Into<String>, figure: Figure, spread: Spread, rounds: usize) -> Self {
        Self {
            work: work.into(),
            peer: None,
            figure,
            spread,
            judged: Judged::Median,
            seconds: None,
            rounds,
            target: None,
            known_gap: None,
            placement: Placement::AllCpus,
        }
    }

    /// Returns a row that shows how a cost grows; each point is a size and its cost.
    ///
    /// Growth in proportion meets the target.
    pub fn growth(work: impl Into<String>, small: (f64, f64), large: (f64, f64)) -> Self {
        let exponent = Spread::exact(growth(small, large));
        Self::new(work, Figure::Growth, exponent, 1).at_most(1.05)
    }

    /// Expects at most this figure.
    pub fn at_most(mut self, most: f64) -> Self {
        self.target = Some(Target::AtMost(most));
        self
    }

    /// Admits that the target is missed, with the figure at the time of writing.
    pub fn known_gap(mut self, figure: f64) -> Self {
        self.known_gap = Some(figure);
        self
    }

    /// Judges the row by its target; `None` without one.
    pub fn verdict(&self) -> Option<Verdict> {
        let target = self.target?;
        Some(target.judge(self.judged_figure(target), self.known_gap.is_some()))
    }

    fn judged_figure(&self, target: Target) -> f64 {
        match (self.judged, target) {
            (Judged::Median, _) => self.spread.median,
            (Judged::BetterEnd, Target::AtLeast(_)) => self.spread.high,
            (Judged::BetterEnd, Target::AtMost(_)) => self.spread.low,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        let spread = Spread {
            low: 1.01,
            median: 1.03,
            high: 1.05,
        };
        Row::new("idle", Figure::Time, spread, 9)
    }

    #[test]
    fn without_a_target_there_is_no_verdict() {
        assert_eq!(row().verdict(), None);
    }

    #[test]
    fn a_confidence_interval_meets_a_target_that_it_includes() {
        let mut row = row().at_most(1.02);
        assert_eq!(row.verdict(), Some(Verdict::Missed));
        row.judged = Judged::BetterEnd;
        assert_eq!(row.verdict(), Some(Verdict::Met));
    }
}
