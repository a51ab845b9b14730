//! The report of a run: the machine, the table and the notes.

use std::fmt;

use serde::Serialize;

use crate::machine;
use crate::message::Message;
use crate::row::Row;
use crate::table;
use crate::target::Verdict;

/// The results of a run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The date, the size of the run, and the machine, in one line.
    pub machine: String,
    /// The versions of the server and of the peers.
    pub versions: String,
    pub rows: Vec<Row>,
    pub notes: Vec<String>,
    /// The works that could not be measured, with the reasons.
    pub failures: Vec<String>,
}

impl Report {
    /// Returns a report without rows.
    pub fn new(is_quick: bool) -> Self {
        Self {
            machine: machine::describe(is_quick),
            versions: machine::versions(),
            rows: Vec::new(),
            notes: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Adds what a measuring process reports, and shows its progress.
    pub fn add(&mut self, message: Message) {
        match message {
            Message::Server(version) => self.set_server(&version),
            Message::Started(work) => eprintln!("measuring {work}"),
            Message::Row(row) => self.push(*row),
            Message::Note(note) => self.note(&note),
            Message::Failed(failure) => self.failures.push(failure),
        }
    }

    /// Adds a line below the table, once.
    pub fn note(&mut self, note: &str) {
        if !self.notes.iter().any(|it| it == note) {
            self.notes.push(note.to_owned());
        }
    }

    /// Returns true if a target was missed by more than half, or a work not measured.
    pub fn has_failed(&self) -> bool {
        let missed = |row: &Row| row.verdict() == Some(Verdict::Failed);
        !self.failures.is_empty() || self.rows.iter().any(missed)
    }

    fn push(&mut self, row: Row) {
        eprintln!("{}", table::line(&row));
        self.rows.push(row);
    }

    fn set_server(&mut self, version: &str) {
        let server = format!("PostgreSQL {version}; ");
        if !self.versions.starts_with(&server) {
            self.versions.insert_str(0, &server);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}\n{}\n\n{}",
            self.machine,
            self.versions,
            table::render(&self.rows)
        )?;
        self.notes
            .iter()
            .try_for_each(|note| writeln!(f, "* {note}"))?;
        self.failures
            .iter()
            .try_for_each(|it| writeln!(f, "* Not measured: {it}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Spread;
    use crate::row::Figure;

    #[test]
    fn a_work_that_was_not_measured_fails_the_run() {
        let mut report = Report::new(true);
        assert!(!report.has_failed());
        report.add(Message::Failed("list: no server".to_owned()));
        assert!(report.has_failed());
        assert!(report.to_string().contains("Not measured: list: no server"));
    }

    #[test]
    fn a_target_missed_by_far_fails_the_run() {
        let mut report = Report::new(true);
        let row = |figure| Row::new("x", Figure::Time, Spread::exact(figure), 1).at_most(1.0);
        report.add(Message::Row(Box::new(row(1.4))));
        assert!(!report.has_failed());
        report.add(Message::Row(Box::new(row(1.6))));
        assert!(report.has_failed());
    }

    #[test]
    fn the_server_and_a_note_are_shown_once() {
        let mut report = Report::new(true);
        for _ in 0..2 {
            report.add(Message::Server("15.18".to_owned()));
            report.add(Message::Note("Something is absent.".to_owned()));
        }
        let text = report.to_string();
        assert_eq!(text.matches("PostgreSQL 15.18").count(), 1);
        assert_eq!(text.matches("Something is absent.").count(), 1);
    }
}
