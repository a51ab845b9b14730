//! An attempt outside a transaction: its progress, and the invalid indexes that it leaves.

use std::sync::Arc;

use diesel::Connection;
use diesel::connection::LoadConnection;
use diesel::migration::Result;
use diesel::pg::Pg;
use diesel_migrations::MigrationHarness;

use super::applied_migrations::BoxedError;
use super::apply::DirectedMigration;
use super::attempt_extent::Extent;
use super::invalid_index::{IndexRepair, InvalidIndex};
use super::limits::MigrationLimits;
use super::lock_timeout::with_lock_timeout;
use super::progress_reader::ProgressReader;
use super::report::MigrationReport;
use super::run::MigrationRun;
use super::settings::AT_ONCE;
use super::watched::Part;
use crate::error::Error;
use crate::fmt::with_sources;
use crate::session::{BackendPid, Driver, run_ready, uncached};
use crate::source::WatcherSource;

impl<C, S> MigrationRun<'_, C, S>
where
    C: Connection<Backend = Pg> + LoadConnection + MigrationHarness<Pg> + 'static,
    S: WatcherSource,
{
    pub(crate) fn try_outside_transaction(
        &mut self,
        migration: DirectedMigration<'_>,
        limits: &MigrationLimits,
        mut extent: Option<&mut Extent>,
        report: &mut MigrationReport,
    ) -> Result<()> {
        let before = self.invalid_indexes();
        let progress = self.read_progress(&report.name);
        let result = self.apply_once(migration, limits, None, extent.as_deref_mut(), report);
        drop(progress);
        let (Some(before), Some(mut after)) = (before, self.invalid_indexes()) else {
            return result;
        };
        let error = match result {
            Ok(()) => {
                self.warn_of(&after, &report.name);
                return Ok(());
            }
            Err(error) => error,
        };
        after.retain(|index| !before.iter().any(|it| it.oid == index.oid));
        self.repair(&mut after, report);
        let left = named(&after);
        if let Some(extent) = extent.filter(|_| !after.is_empty() && left.is_empty()) {
            *extent = Extent::Repaired;
        }
        report.invalid_indexes.extend(after);
        Err(invalid_indexes(left, error))
    }

    /// Reads the invalid indexes; a failure decides nothing.
    fn invalid_indexes(&mut self) -> Option<Vec<InvalidIndex>> {
        let (report, settings) = (&mut *self.report, self.settings);
        let read = with_lock_timeout(self.conn, Some(AT_ONCE), report, settings, |conn| {
            Ok(InvalidIndex::load(conn)?)
        });
        read.inspect_err(|error| {
            let error = with_sources(error.as_ref());
            let warning = format!("the invalid indexes could not be read: {error}");
            self.report.warn(self.settings, warning);
        })
        .ok()
    }

    fn read_progress(&mut self, name: &str) -> Option<ProgressReader> {
        // A session that cannot answer makes the migration fail.
        let pid = run_ready(uncached(self.conn).ask(BackendPid)).ok()?;
        let source = Arc::clone(self.prioritizer.source());
        ProgressReader::start(&source, self.settings, name, pid)
    }

    /// Warns of indexes that are invalid although a migration succeeded: `IF NOT EXISTS` passes
    /// over them.
    fn warn_of(&mut self, indexes: &[InvalidIndex], name: &str) {
        for index in indexes {
            let table = &index.table;
            let warning = format!("{name}: the index `{index}` of `{table}` is invalid");
            self.report.warn(self.settings, warning);
        }
    }

    fn repair(&mut self, indexes: &mut [InvalidIndex], report: &mut MigrationReport) {
        let Some(repair) = self.settings.index_repair else {
            return;
        };
        for index in indexes {
            match self.repair_index(index, repair, report) {
                Ok(()) => index.repaired = true,
                Err(error) => {
                    let error = with_sources(error.as_ref());
                    let warning = format!("the index `{index}` could not be repaired: {error}");
                    self.report.warn(self.settings, warning);
                }
            }
        }
    }

    fn repair_index(
        &mut self,
        index: &InvalidIndex,
        repair: IndexRepair,
        report: &mut MigrationReport,
    ) -> Result<()> {
        let statement = index.repair(repair)?;
        // A rebuild that is cancelled leaves another invalid index.
        let timeout = match repair {
            IndexRepair::Drop => self.settings.lock_timeout(self.prioritizer),
            IndexRepair::Reindex => None,
        };
        let part = Part {
            work: Some(&report.name),
            is_retry: true,
        };
        let watched = self.watched(timeout, part, |conn| Ok(conn.batch_execute(&statement)?));
        report.add_watched(watched.report);
        watched.result
    }
}

/// Returns the names of the indexes that are still invalid.
fn named(indexes: &[InvalidIndex]) -> Vec<String> {
    let left = indexes.iter().filter(|index| !index.repaired);
    left.map(InvalidIndex::to_string).collect()
}

fn invalid_indexes(indexes: Vec<String>, source: BoxedError) -> BoxedError {
    if indexes.is_empty() {
        return source;
    }
    Box::new(Error::InvalidIndexes { indexes, source })
}
