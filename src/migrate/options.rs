//! The options of migrations: those of a harness, and exceptions for single migrations.

use std::time::Duration;

use super::locks_first::FirstLock;
use crate::types::{LockableTable, TableLockMode};

/// The options of a migration, for [`PrioritizedHarness::for_migration`](crate::PrioritizedHarness::for_migration).
///
/// An option that is not set here is the harness's.
///
/// # Examples
///
/// ```
/// # include!("../../tests/support/doctest.rs");
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// # let mut conn = connection();
/// use std::time::Duration;
///
/// use diesel_migrations::MigrationHarness;
/// use diesel_pglock::{MIGRATIONS, PrioritizedHarness, Prioritizer};
///
/// let mut harness = PrioritizedHarness::new(&mut conn, Prioritizer::new(database_url()))
///     .for_migration("1970-01-01-000000", |migration| {
///         migration.lock_timeout(Duration::from_secs(2)).attempts(1)
///     });
/// harness.run_pending_migrations(MIGRATIONS)?;
/// assert_eq!(harness.report().migrations[0].attempts, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct MigrationOptions {
    pub(crate) lock_timeout: Option<Option<Duration>>,
    pub(crate) statement_timeout: Option<Option<Duration>>,
    pub(crate) attempts: Option<u32>,
    pub(crate) locks_first: Vec<FirstLock>,
}

impl MigrationOptions {
    /// Limits how long a statement of the migration may wait for a lock; `None`: no limit.
    ///
    /// See [`PrioritizedHarness::lock_timeout`](crate::PrioritizedHarness::lock_timeout). Set
    /// here, it applies to a migration outside a transaction too.
    pub fn lock_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.lock_timeout = Some(timeout.into());
        self
    }

    /// Limits the duration of each statement of the migration; `None`: no limit.
    ///
    /// See [`PrioritizedHarness::statement_timeout`](crate::PrioritizedHarness::statement_timeout).
    /// Set here, it applies to a migration outside a transaction too.
    pub fn statement_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.statement_timeout = Some(timeout.into());
        self
    }

    /// Limits the attempts at the migration, if it fails because of a lock; at least 1.
    ///
    /// A migration outside a transaction is tried again only if it was a single transaction.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = Some(attempts);
        self
    }

    /// Locks a table before the migration's own statements.
    ///
    /// See [`PrioritizedHarness::lock_first`](crate::PrioritizedHarness::lock_first).
    pub fn lock_first<T: LockableTable>(mut self, mode: TableLockMode) -> Self {
        self.locks_first
            .push(FirstLock::rendered(T::render(), mode));
        self
    }

    /// Locks tables before the migration's own statements.
    ///
    /// See [`PrioritizedHarness::lock_first_named`](crate::PrioritizedHarness::lock_first_named).
    pub fn lock_first_named<N: AsRef<str>>(
        mut self,
        tables: impl IntoIterator<Item = N>,
        mode: TableLockMode,
    ) -> Self {
        let tables = tables.into_iter();
        let locks = tables.map(|table| FirstLock::named(table.as_ref(), mode));
        self.locks_first.extend(locks);
        self
    }

    /// Completes the options of a migration by those of the harness.
    pub(crate) fn or(&self, harness: &Self) -> Self {
        let locks_first = harness.locks_first.iter().chain(&self.locks_first);
        Self {
            lock_timeout: self.lock_timeout.or(harness.lock_timeout),
            statement_timeout: self.statement_timeout.or(harness.statement_timeout),
            attempts: self.attempts.or(harness.attempts),
            locks_first: locks_first.cloned().collect(),
        }
    }
}
