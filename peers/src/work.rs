//! A work: something that users do, and how it is measured.

use crate::Result;
use crate::bench::Bench;
use crate::placement::Placement;
use crate::row::Row;

/// A work of the table; each is a file in `works/`.
pub struct Work {
    /// The name by which a run chooses it.
    pub name: &'static str,
    /// The one line of `--list`.
    pub summary: &'static str,
    /// True if it has targets on all CPUs too, not only on one.
    pub has_free_targets: bool,
    /// Measures it.
    pub run: fn(&Bench) -> Result<Vec<Row>>,
}

impl Work {
    /// Returns true if one of the names is a part of this one, or if there are none.
    pub fn is_chosen(&self, names: &[String]) -> bool {
        names.is_empty() || names.iter().any(|name| self.name.contains(name.as_str()))
    }

    /// Returns true if its targets apply there; a quick run measures nothing else.
    pub fn has_targets_on(&self, placement: Placement) -> bool {
        placement == Placement::OneCpu || self.has_free_targets
    }

    /// Measures it, and marks its rows.
    pub fn measure(&self, bench: &Bench) -> Result<Vec<Row>> {
        let mut rows = (self.run)(bench)?;
        for row in &mut rows {
            row.placement = bench.placement;
            if !self.has_targets_on(bench.placement) {
                (row.target, row.known_gap) = (None, None);
            }
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_name_chooses_a_work() {
        let work = Work {
            name: "advisory-sync",
            summary: "",
            has_free_targets: false,
            run: |_| Ok(Vec::new()),
        };
        assert!(work.is_chosen(&[]));
        assert!(work.is_chosen(&["x".to_owned(), "advisory".to_owned()]));
        assert!(!work.is_chosen(&["async".to_owned()]));
    }
}
