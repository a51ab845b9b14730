//! The plan of the pending migrations, and its parts.

use crate::types::{RelationKind, TableLockMode};
use crate::views::{PgActivity, PgLock};

/// The plan of the pending migrations: what each statement would lock, rewrite and block.
///
/// From [`PrioritizedHarness::plan`](crate::PrioritizedHarness::plan). `Display` shows a block for
/// each migration.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct MigrationPlan {
    /// The pending migrations, in the order in which they would be run.
    pub migrations: Vec<PlannedMigration>,
    /// The applied migrations that failed on the scratch database: the plan lacks their effects.
    pub not_applied: Vec<NotPlanned>,
    /// The session of the real database whose transaction is the oldest.
    ///
    /// `CREATE INDEX CONCURRENTLY` waits for it. `None` if no transaction is open, or if the role
    /// lacks the privilege to read the sessions of others.
    pub oldest_transaction: Option<PgActivity>,
    /// Migrations that share a version, for example, or applied ones that the source lacks.
    pub warnings: Vec<String>,
}

/// The plan of one migration.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PlannedMigration {
    /// The name of the migration, such as `2026-11-22-000000_add_age`.
    pub name: String,
    /// True if the migration is one transaction: then its locks last until its end.
    pub run_in_transaction: bool,
    /// Its statements, in order, up to the one that failed.
    pub statements: Vec<PlannedStatement>,
    /// The error, if the migration failed on the scratch database.
    pub not_planned: Option<NotPlanned>,
}

/// A migration that failed on the scratch database, and the error.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct NotPlanned {
    /// The name of the migration.
    pub name: String,
    /// The line of the statement that failed, from 1, if it is known.
    pub line: Option<usize>,
    /// The statement that failed, if it is known.
    pub sql: Option<String>,
    /// The error of the scratch server.
    pub error: String,
}

/// A statement of a migration, and what it did on the scratch database.
///
/// Relations that the pending migrations make themselves are left out: no session uses them yet.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PlannedStatement {
    /// The statement, without the comments around it; empty for the code of a Rust migration.
    pub sql: String,
    /// The line in which it starts, from 1.
    pub line: usize,
    /// What the plan of this statement lacks, and why: a text that could not be split, for example.
    pub caveat: Option<String>,
    /// The locks that it took, in addition to those of the statements before.
    pub locks: Vec<PlannedLock>,
    /// The tables that it rewrote.
    pub rewrites: Vec<PlannedRelation>,
    /// The indexes that it built, except those of the tables that it rewrote.
    pub indexes: Vec<PlannedIndex>,
}

/// A lock that a statement takes.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PlannedLock {
    /// The table, view or index.
    pub relation: PlannedRelation,
    /// The strongest mode of the statement.
    pub mode: TableLockMode,
    /// The conflicting locks that sessions held when the plan was made: the statement would wait
    /// for them.
    pub holders: Vec<PgLock>,
}

/// A relation of the real database, found by its schema and name.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PlannedRelation {
    /// The schema, before the pending migrations.
    pub schema: String,
    /// The name, before the pending migrations.
    pub name: String,
    /// The kind of relation.
    pub kind: RelationKind,
    /// False if the real database has no such relation: it differs from what its applied
    /// migrations make.
    pub exists: bool,
    /// The size in bytes, with indexes and long values; `None` if it is unknown.
    ///
    /// While a session holds an `AccessExclusiveLock` on it, an estimate of the server.
    pub size: Option<u64>,
    /// The server's estimate of the number of rows; `None` before the first `ANALYZE`, and for an
    /// empty table.
    pub rows: Option<u64>,
}

/// An index that a statement builds on a table with rows of the real database.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PlannedIndex {
    /// The schema of the index and of its table.
    pub schema: String,
    /// The name of the index.
    pub name: String,
    /// The table, which is read to build the index.
    pub table: PlannedRelation,
    /// True if the index was built anew, as `REINDEX` does.
    pub rebuilt: bool,
}

impl MigrationPlan {
    /// Returns the migrations that failed on the scratch database, the applied ones first.
    pub fn not_planned(&self) -> impl Iterator<Item = &NotPlanned> {
        let pending = self.migrations.iter();
        let pending = pending.filter_map(|migration| migration.not_planned.as_ref());
        self.not_applied.iter().chain(pending)
    }
}

impl PlannedLock {
    /// Describes the statements of other sessions that the lock blocks, such as `reads and writes`.
    pub fn blocks(&self) -> &'static str {
        use TableLockMode::*;
        match self.mode {
            AccessExclusive => "reads and writes",
            Exclusive => "writes and row locks, no plain reads",
            ShareRowExclusive | Share => "writes, no reads",
            ShareUpdateExclusive => "schema changes and VACUUM, no reads or writes",
            RowExclusive => "index builds and other schema changes, no reads or writes",
            RowShare | AccessShare => "only schema changes that lock out all others",
        }
    }
}
