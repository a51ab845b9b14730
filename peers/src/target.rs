//! Targets, and the judgement of figures by them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The factor by which a figure may miss its target without a failure.
///
/// Short runs on a busy machine scatter; a change for the worse that matters is larger.
const TOLERANCE: f64 = 1.5;

/// The least or the greatest figure that is good.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Target {
    AtLeast(f64),
    AtMost(f64),
}

/// The judgement of a figure by its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The target is met.
    Met,
    /// The target is missed, by half at most.
    Missed,
    /// The target is missed, as the source of the work admits.
    KnownGap,
    /// The target is missed by more than half, which fails the run.
    Failed,
}

impl Target {
    /// Judges a figure; `known_gap` is true if a miss is admitted.
    pub fn judge(self, figure: f64, known_gap: bool) -> Verdict {
        match self.shortfall(figure) {
            shortfall if shortfall <= 1.0 => Verdict::Met,
            _ if known_gap => Verdict::KnownGap,
            shortfall if shortfall <= TOLERANCE => Verdict::Missed,
            _ => Verdict::Failed,
        }
    }

    /// Returns the factor by which a figure is worse than the target; up to 1 meets it.
    fn shortfall(self, figure: f64) -> f64 {
        match self {
            Self::AtLeast(least) => least / figure,
            Self::AtMost(most) => figure / most,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, "≥ {least}"),
            Self::AtMost(most) => write!(f, "≤ {most}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_fails_only_if_a_figure_is_worse_by_more_than_half() {
        let speed = Target::AtLeast(0.9);
        assert_eq!(speed.judge(0.9, false), Verdict::Met);
        assert_eq!(speed.judge(0.61, false), Verdict::Missed);
        assert_eq!(speed.judge(0.59, false), Verdict::Failed);
        let time = Target::AtMost(1.2);
        assert_eq!(time.judge(1.2, false), Verdict::Met);
        assert_eq!(time.judge(1.79, false), Verdict::Missed);
        assert_eq!(time.judge(1.81, false), Verdict::Failed);
    }

    #[test]
    fn a_known_gap_never_fails_and_is_gone_once_the_target_is_met() {
        assert_eq!(Target::AtMost(1.0).judge(9.0, true), Verdict::KnownGap);
        assert_eq!(Target::AtMost(1.0).judge(0.9, true), Verdict::Met);
    }

    #[test]
    fn a_figure_that_could_not_be_computed_fails() {
        assert_eq!(Target::AtMost(1.0).judge(f64::NAN, false), Verdict::Failed);
    }
}
