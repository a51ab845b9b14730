//! The options that the sync and the async harness have in common.

/// Gives a harness its options; it has the fields `settings`, `lock_key` and `wait_limit`.
macro_rules! harness_options {
    ($Harness:ident<$($arg:tt),+>) => {
        impl<$($arg),+> $Harness<$($arg),+> {
            /// Limits how long a statement may wait for a lock; `None`: no limit.
            ///
            /// It applies to the statements of a migration, and to those that read the history.
            /// Range: 1 ms to `i32::MAX` ms. Default: the prioritizer's
            /// [`lock_timeout`](crate::Prioritizer::lock_timeout), or else 5 s. Migrations outside a transaction
            /// have no limit. See PostgreSQL's [`lock_timeout`].
            ///
            /// [`lock_timeout`]: https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-LOCK-TIMEOUT
            pub fn lock_timeout(mut self, timeout: impl Into<Option<std::time::Duration>>) -> Self {
                self.settings.options = self.settings.options.lock_timeout(timeout);
                self
            }

            /// Limits the attempts at a migration that fails because of a lock; default: 3, at least 1.
            pub fn attempts(mut self, attempts: u32) -> Self {
                self.settings.options = self.settings.options.attempts(attempts);
                self
            }

            /// Limits the duration of each statement of a migration; `None`: no limit.
            ///
            /// Range: 1 ms to `i32::MAX` ms. Default: the session's own. Migrations outside a transaction
            /// keep the session's own. A statement that took too long is not tried again. See PostgreSQL's
            /// [`statement_timeout`].
            ///
            /// [`statement_timeout`]: https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-STATEMENT-TIMEOUT
            pub fn statement_timeout(mut self, timeout: impl Into<Option<std::time::Duration>>) -> Self {
                self.settings.options = self.settings.options.statement_timeout(timeout);
                self
            }

            /// Locks a table before the own statements of each migration in a transaction.
            ///
            /// Several tables are locked together or not at all. The migration waits for one of them while
            /// it holds no other, so it does not deadlock with sessions that take them in another order.
            /// If another one is locked, it releases the first, and waits for that. The
            /// [lock timeout](Self::lock_timeout) limits each wait, and the rounds together.
            ///
            /// After a deadlock the next attempts lock first, by themselves, the tables that the migration
            /// was found waiting for.
            pub fn lock_first<T: $crate::types::LockableTable>(mut self, mode: $crate::types::TableLockMode) -> Self {
                self.settings.options = self.settings.options.lock_first::<T>(mode);
                self
            }

            /// Locks tables before the own statements of each migration in a transaction.
            ///
            /// Names are read as in SQL: `table` or `schema.table`, in lower case unless quoted. See
            /// [`lock_first`](Self::lock_first).
            pub fn lock_first_named<N: AsRef<str>>(
                mut self,
                tables: impl IntoIterator<Item = N>,
                mode: $crate::types::TableLockMode,
            ) -> Self {
                self.settings.options = self.settings.options.lock_first_named(tables, mode);
                self
            }

            /// Runs migrations inside the caller's transaction, which must be open.
            ///
            /// Each migration is a savepoint in it, and its locks and the migration lock last until the
            /// transaction ends. An application can so migrate several schemas together, or undo a
            /// migration after a check. After an error the transaction is usable; it has the migrations
            /// before the one that failed.
            ///
            /// A migration must not end the transaction: the lock timeout and the migration lock end with it.
            /// It is tried again after a lock timeout, but not after a deadlock: the locks of the
            /// transaction would meet it again. Migrations with `run_in_transaction = false` run in the
            /// transaction too; a `CONCURRENTLY` fails there.
            ///
            /// Default: migrations open transactions of their own, and an open one is an
            /// [`Error::InTransaction`](crate::Error::InTransaction).
            ///
            /// # Examples
            ///
            /// ```
            /// # include!("../../tests/support/doctest.rs");
            /// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
            /// # let mut conn = connection();
            /// use diesel::Connection;
            /// use diesel_migrations::MigrationHarness;
            /// use diesel_pglock::{MIGRATIONS, PrioritizedHarness, Prioritizer};
            ///
            /// let migrated = conn.transaction(|conn| -> diesel::migration::Result<usize> {
            ///     let prioritizer = Prioritizer::new(database_url());
            ///     let mut harness = PrioritizedHarness::new(conn, prioritizer).within_transaction();
            ///     Ok(harness.run_pending_migrations(MIGRATIONS)?.len())
            /// })?;
            /// assert!(migrated > 0);
            /// # Ok(())
            /// # }
            /// ```
            pub fn within_transaction(mut self) -> Self {
                self.settings.within_transaction = true;
                self
            }

            /// Repairs the invalid indexes that a migration outside a transaction leaves when it fails.
            ///
            /// After a lock failure the migration is then tried again, as often as [`attempts`](Self::attempts)
            /// says. It should be a single `CREATE INDEX CONCURRENTLY` or `REINDEX CONCURRENTLY`: what
            /// else it did is done again. The repair is prioritized; a drop has the
            /// [lock timeout](Self::lock_timeout), a rebuild has none.
            ///
            /// Default: the indexes stay, and the report and [`Error::InvalidIndexes`](crate::Error) name them.
            pub fn repair_indexes(mut self, repair: $crate::migrate::invalid_index::IndexRepair) -> Self {
                self.settings.index_repair = Some(repair);
                self
            }

            /// Sets options for the migration with this version, beside those of the harness.
            ///
            /// `version` is the version, with or without dashes, or the name of the migration. A version
            /// that no migration has is reported in a warning.
            pub fn for_migration(
                mut self,
                version: &str,
                options: impl FnOnce($crate::migrate::options::MigrationOptions) -> $crate::migrate::options::MigrationOptions,
            ) -> Self {
                self.settings.set_exception(version, options);
                self
            }

            /// Sets the pauses between attempts; default: [`Backoff::default`](crate::Backoff).
            pub fn backoff(mut self, backoff: $crate::migrate::backoff::Backoff) -> Self {
                self.settings.backoff = backoff;
                self
            }

            /// Sets the key of the migration lock, the advisory lock by which instances take turns.
            ///
            /// Default: a key named after the schema that has, or will have, Diesel's history of
            /// migrations. Tenants with a `search_path` each do not wait for each other.
            pub fn lock_key(mut self, key: impl Into<$crate::types::AdvisoryKey>) -> Self {
                self.lock_key = Some(key.into());
                self
            }

            /// Limits how long to wait for other instances; `None`: no limit; default: 10 minutes.
            ///
            /// After that, runs fail with [`Error::NotAcquired`](crate::Error::NotAcquired), which names
            /// the session of the instance that holds the lock. Meanwhile events report the wait.
            pub fn wait_for_instances(mut self, timeout: impl Into<Option<std::time::Duration>>) -> Self {
                self.wait_limit = timeout.into();
                self
            }

            /// Calls `on_event` with each event, for a progress display.
            ///
            /// Events of the watcher are emitted on the watcher's thread, and those of an async harness on
            /// a thread of the run.
            pub fn on_event(mut self, on_event: impl Fn(&$crate::migrate::event::MigrationEvent) + Send + Sync + 'static) -> Self {
                self.settings.on_event = Some(std::sync::Arc::new(on_event));
                self
            }
        }
    };
}

pub(crate) use harness_options;
