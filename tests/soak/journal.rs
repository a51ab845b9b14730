//! The record of a soak: its seed, the last steps, and counts.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The number of steps that a failure prints.
const LAST_STEPS: usize = 50;

/// Records what a soak does; prints the seed and the last steps if the test fails.
pub struct Journal {
    seed: u64,
    counts: Mutex<BTreeMap<String, u64>>,
    steps: Mutex<VecDeque<String>>,
}

impl Journal {
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            counts: Mutex::default(),
            steps: Mutex::default(),
        }
    }

    /// Counts an event of a kind.
    pub fn count(&self, kind: impl Into<String>) {
        *lock(&self.counts).entry(kind.into()).or_default() += 1;
    }

    /// Returns the number of events of a kind.
    pub fn counted(&self, kind: &str) -> u64 {
        lock(&self.counts).get(kind).copied().unwrap_or_default()
    }

    /// Keeps a step among the last.
    pub fn step(&self, step: String) {
        let mut steps = lock(&self.steps);
        if steps.len() == LAST_STEPS {
            steps.pop_front();
        }
        steps.push_back(step);
    }

    /// Prints the counts of each kind.
    pub fn print_counts(&self) {
        for (kind, count) in &*lock(&self.counts) {
            print(&format!("{count:>9}  {kind}"));
        }
    }

    fn print_steps(&self) {
        let steps = lock(&self.steps);
        print(&format!("the last {} steps:", steps.len()));
        steps.iter().for_each(|step| print(step));
        print(&format!("seed {}", self.seed));
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print_counts();
            self.print_steps();
        }
    }
}

/// Prints a line past the capture of the output of tests.
pub fn print(line: &str) {
    let _ = writeln!(std::io::stderr(), "soak: {line}");
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
