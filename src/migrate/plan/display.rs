//! The plan for a person: a block for each migration.

use std::fmt;

use super::migration_plan::{
    MigrationPlan, NotPlanned, PlannedIndex, PlannedLock, PlannedMigration, PlannedRelation,
    PlannedStatement,
};
use crate::fmt::{format_duration, quote_identifier, single_line, single_line_query};
use crate::types::{RelationKind, TableLockMode};
use crate::views::HeldBy;

/// The greatest length of a statement in the text.
const MAX_SQL: usize = 100;

impl fmt::Display for MigrationPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.migrations.is_empty() {
            writeln!(f, "nothing to run")?;
        }
        for migration in &self.migrations {
            writeln!(f, "{migration}")?;
        }
        for failed in &self.not_applied {
            writeln!(f, "not applied on the scratch database: {failed}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {}", single_line(warning, usize::MAX))?;
        }
        self.write_oldest_transaction(f)
    }
}

impl MigrationPlan {
    fn write_oldest_transaction(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(oldest) = &self.oldest_transaction else {
            return Ok(());
        };
        write!(f, "oldest transaction: pid {}", oldest.pid)?;
        if let Some(name) = oldest
            .application_name
            .as_deref()
            .filter(|it| !it.is_empty())
        {
            write!(f, " ({})", single_line(name, MAX_SQL))?;
        }
        match oldest.transaction_duration {
            Some(age) => writeln!(f, ", open for {}", format_duration(age)),
            None => writeln!(f),
        }
    }
}

impl fmt::Display for PlannedMigration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.run_in_transaction {
            true => "in a transaction",
            false => "outside a transaction",
        };
        write!(f, "{}: {place}", single_line(&self.name, usize::MAX))?;
        let (shown, others): (Vec<_>, Vec<_>) =
            self.statements.iter().partition(|it| it.is_notable());
        for statement in shown {
            write!(f, "\n{statement}")?;
        }
        match others.len() {
            0 => {}
            1 => write!(f, "\n  1 statement blocks no session")?,
            more => write!(f, "\n  {more} statements block no session")?,
        }
        match &self.not_planned {
            Some(failed) => write!(f, "\n  not planned: {failed}"),
            None => Ok(()),
        }
    }
}

impl PlannedStatement {
    /// Returns true unless the statement only reads and changes rows.
    fn is_notable(&self) -> bool {
        let is_idle = self.shown_locks().next().is_none();
        !is_idle || self.caveat.is_some() || !self.rewrites.is_empty() || !self.indexes.is_empty()
    }

    /// Returns the locks that block more than the drop of a table.
    fn shown_locks(&self) -> impl Iterator<Item = &PlannedLock> {
        let locks = self.locks.iter();
        locks.filter(|lock| lock.mode > TableLockMode::RowShare || !lock.holders.is_empty())
    }
}

impl fmt::Display for PlannedStatement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sql.as_str() {
            "" => write!(f, "  before or between the statements:")?,
            sql => write!(
                f,
                "  line {}: {}",
                self.line,
                single_line_query(sql, MAX_SQL)
            )?,
        }
        for lock in self.shown_locks() {
            write!(f, "\n    {lock}")?;
        }
        for table in &self.rewrites {
            write!(f, "\n    rewrites {table}")?;
        }
        for index in &self.indexes {
            write!(f, "\n    {index}")?;
        }
        match &self.caveat {
            Some(caveat) => write!(f, "\n    note: {}", single_line(caveat, usize::MAX)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for PlannedLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { relation, mode, .. } = self;
        write!(
            f,
            "locks {relation} in {mode} mode, which blocks {}",
            self.blocks()
        )?;
        write!(f, "{}", HeldBy(&self.holders))
    }
}

impl fmt::Display for PlannedIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = if self.rebuilt { "rebuilds" } else { "builds" };
        let (schema, name) = (quote_identifier(&self.schema), quote_identifier(&self.name));
        let name = single_line(&format!("{schema}.{name}"), usize::MAX);
        write!(f, "{done} the index {name} of {}", self.table)
    }
}

/// Writes the name, with quotes where SQL needs them, and the size.
impl fmt::Display for PlannedRelation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (schema, name) = (quote_identifier(&self.schema), quote_identifier(&self.name));
        f.write_str(&single_line(&format!("{schema}.{name}"), usize::MAX))?;
        let kind = match self.kind {
            RelationKind::Table => None,
            kind => Some(kind.to_string()),
        };
        if !self.exists {
            return f.write_str(" (missing in the database)");
        }
        let size = self.size.map(format_size);
        let rows = self.rows.map(|rows| format!("about {rows} rows"));
        let facts: Vec<_> = [kind, size, rows].into_iter().flatten().collect();
        match facts.is_empty() {
            true => Ok(()),
            false => write!(f, " ({})", facts.join(", ")),
        }
    }
}

impl fmt::Display for NotPlanned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&single_line(&self.name, usize::MAX))?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        if let Some(sql) = &self.sql {
            write!(f, ": {}", single_line_query(sql, MAX_SQL))?;
        }
        write!(f, ": {}", single_line(&self.error, usize::MAX))
    }
}

/// Formats a size as `pg_size_pretty` does.
fn format_size(bytes: u64) -> String {
    let units = ["bytes", "kB", "MB", "GB", "TB"];
    let mut size = bytes as f64;
    let mut unit = 0;
    // Two digits before the unit grows, as the server does.
    while size >= 10.0 * 1024.0 && unit + 1 < units.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.0} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_shown_as_the_server_shows_it() {
        assert_eq!(format_size(0), "0 bytes");
        assert_eq!(format_size(10 * 1024 - 1), "10239 bytes");
        assert_eq!(format_size(10 * 1024), "10 kB");
        assert_eq!(format_size(3 << 30), "3072 MB");
        assert_eq!(format_size(30 << 30), "30 GB");
    }

    #[test]
    fn hostile_names_are_shown_on_one_line() {
        let failed = NotPlanned {
            name: "a\n\u{1b}[2J".to_owned(),
            line: Some(3),
            sql: Some("SELECT 1 -- x\n, 2".to_owned()),
            error: "b\nc".to_owned(),
        };
        assert_eq!(
            failed.to_string(),
            "a [2J, line 3: SELECT 1 /* x */ , 2: b c"
        );
    }
}
