//! A peer of a contest, and what is expected beside it.

use crate::Result;
use crate::figures::{Spread, median};
use crate::row::{Figure, Judged, Row};
use crate::target::Target;

/// Takes one sample: most are seconds for one operation.
pub type Sample<'a> = Box<dyn FnMut() -> Result<f64> + 'a>;

/// A program, a crate or a statement that does the same work.
#[must_use = "a peer takes part only once it is added to a contest"]
pub struct Peer<'a> {
    name: String,
    sample: Sample<'a>,
    figure: Figure,
    judged: Judged,
    allowance: f64,
    target: Option<Target>,
    known_gap: Option<f64>,
}

impl<'a> Peer<'a> {
    /// Returns a peer whose speed is compared: more is better for us.
    pub fn speed(name: impl Into<String>, sample: impl FnMut() -> Result<f64> + 'a) -> Self {
        Self::new(Figure::Speed, name.into(), Box::new(sample))
    }

    /// Returns a peer whose time is compared: less is better for us.
    pub fn time(name: impl Into<String>, sample: impl FnMut() -> Result<f64> + 'a) -> Self {
        Self::new(Figure::Time, name.into(), Box::new(sample))
    }

    fn new(figure: Figure, name: String, sample: Sample<'a>) -> Self {
        Self {
            name,
            sample,
            figure,
            judged: Judged::Median,
            allowance: 0.0,
            target: None,
            known_gap: None,
        }
    }

    /// Changes the name.
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Expects at least this speed.
    pub fn at_least(mut self, least: f64) -> Self {
        self.target = Some(Target::AtLeast(least));
        self
    }

    /// Expects at most this time.
    pub fn at_most(mut self, most: f64) -> Self {
        self.target = Some(Target::AtMost(most));
        self
    }

    /// Subtracts some seconds from ours before the figure is computed.
    pub fn allow(mut self, seconds: f64) -> Self {
        self.allowance = seconds;
        self
    }

    /// Shows a confidence interval, which has to include the target.
    pub fn with_confidence(mut self) -> Self {
        self.judged = Judged::BetterEnd;
        self
    }

    /// Admits that the target is missed, with the figure at the time of writing.
    pub fn known_gap(mut self, figure: f64) -> Self {
        self.known_gap = Some(figure);
        self
    }

    /// Takes one sample.
    pub fn sample(&mut self) -> Result<f64> {
        (self.sample)()
    }

    /// Compares the samples of ours with those of the peer.
    pub fn row(self, work: &str, ours: &[f64], theirs: &[f64]) -> Row {
        let pairs = ours.iter().zip(theirs);
        let ratios: Vec<f64> = pairs.map(|(ours, peer)| self.ratio(*ours, *peer)).collect();
        let spread = match self.judged {
            Judged::Median => Spread::of(&ratios),
            Judged::BetterEnd => Spread::with_confidence(&ratios),
        };
        Row {
            peer: Some(self.name),
            judged: self.judged,
            seconds: Some((median(ours), median(theirs))),
            target: self.target,
            known_gap: self.known_gap,
            ..Row::new(work, self.figure, spread, ratios.len())
        }
    }

    /// Compares samples of the same round, so that what slows a whole round down cancels out.
    fn ratio(&self, ours: f64, theirs: f64) -> f64 {
        match self.figure {
            Figure::Speed => theirs / ours,
            _ => (ours - self.allowance) / theirs,
        }
    }
}
