//! A contest: the same work, done by this crate and by its peers, in turns.

use std::time::Instant;

use rand::seq::SliceRandom;

use crate::Result;
use crate::figures::median;
use crate::peer::{Peer, Sample};
use crate::row::Row;

/// Some work of this crate, and of the peers beside it.
pub struct Contest<'a> {
    title: String,
    ours: Sample<'a>,
    peers: Vec<Peer<'a>>,
}

/// The samples of a contest: one of each contestant in every round.
pub struct Race {
    ours: Vec<f64>,
    rows: Vec<Row>,
}

impl<'a> Contest<'a> {
    /// Returns a contest with a sample of ours, and no peers yet.
    pub fn new(title: impl Into<String>, ours: impl FnMut() -> Result<f64> + 'a) -> Self {
        Self {
            title: title.into(),
            ours: Box::new(ours),
            peers: Vec::new(),
        }
    }

    /// Adds a peer, if it can take part.
    pub fn add(&mut self, peer: impl Into<Option<Peer<'a>>>) {
        self.peers.extend(peer.into());
    }

    /// Takes one sample of each contestant per round, in a new order each time.
    ///
    /// A round that is not counted warms caches first.
    pub fn run(mut self, rounds: usize) -> Result<Race> {
        let mut samples = vec![Vec::new(); self.peers.len() + 1];
        self.round(&mut samples)?;
        samples.iter_mut().for_each(Vec::clear);
        for _ in 0..rounds {
            self.round(&mut samples)?;
        }
        Ok(self.finish(samples))
    }

    fn round(&mut self, samples: &mut [Vec<f64>]) -> Result<()> {
        let mut order: Vec<usize> = (0..samples.len()).collect();
        order.shuffle(&mut rand::rng());
        for contestant in order {
            samples[contestant].push(self.sample(contestant)?);
        }
        Ok(())
    }

    fn sample(&mut self, contestant: usize) -> Result<f64> {
        match contestant.checked_sub(1) {
            None => (self.ours)(),
            Some(peer) => self.peers[peer].sample(),
        }
    }

    fn finish(self, samples: Vec<Vec<f64>>) -> Race {
        let (ours, theirs) = samples.split_first().expect("a contest has ours");
        let peers = self.peers.into_iter().zip(theirs);
        Race {
            rows: peers
                .map(|(it, theirs)| it.row(&self.title, ours, theirs))
                .collect(),
            ours: ours.clone(),
        }
    }
}

impl Race {
    /// Returns the median of our samples.
    pub fn ours(&self) -> f64 {
        median(&self.ours)
    }

    /// Returns the least of our samples: of all, noise has changed this the least.
    pub fn least(&self) -> f64 {
        self.ours.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// Returns one row for each peer.
    pub fn into_rows(self) -> Vec<Row> {
        self.rows
    }
}

/// Returns the seconds of one call, as the mean of several.
pub fn per_call(calls: usize, mut call: impl FnMut() -> Result<()>) -> Result<f64> {
    let started = Instant::now();
    for _ in 0..calls {
        call()?;
    }
    Ok(started.elapsed().as_secs_f64() / calls as f64)
}

/// Returns the seconds of one call.
pub fn seconds(call: impl FnOnce() -> Result<()>) -> Result<f64> {
    let started = Instant::now();
    call()?;
    Ok(started.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Spread;

    #[test]
    fn speed_and_time_are_inverse() {
        let mut contest = Contest::new("work", || Ok(2.0));
        contest.add(Peer::speed("speed", || Ok(1.0)));
        contest.add(Peer::time("time", || Ok(1.0)));
        contest.add(Peer::time("allowed", || Ok(1.0)).allow(1.5));
        contest.add(None);
        let rows = contest.run(3).unwrap().into_rows();
        let figures: Vec<f64> = rows.iter().map(|row| row.spread.median).collect();
        assert_eq!(figures, [0.5, 2.0, 0.5]);
        assert_eq!(rows[0].rounds, 3);
    }

    #[test]
    fn samples_of_one_round_are_compared_with_each_other() {
        // Both double from round to round; their ratio stays.
        let doubling = |mut next: f64| {
            move || {
                next *= 2.0;
                Ok(next)
            }
        };
        let mut contest = Contest::new("work", doubling(3.0));
        contest.add(Peer::time("peer", doubling(1.0)));
        let row = contest.run(4).unwrap().into_rows().remove(0);
        assert_eq!(row.spread, Spread::exact(3.0));
    }

    #[test]
    fn a_failing_contestant_ends_the_contest() {
        let mut contest = Contest::new("work", || Ok(1.0));
        contest.add(Peer::time("peer", || Err("broken".into())));
        assert!(contest.run(1).is_err());
    }
}
