//! One migration, run or reverted as Diesel's own harness does it.

use diesel::Connection;
use diesel::connection::LoadConnection;
use diesel::migration::{Migration, Result};
use diesel::pg::Pg;

use super::history::HistoryPlace;
use super::history_statement::RecordMigration;
use super::lock_recorder::{LockRecorder, RecordedLocks};
use crate::session::{Driver, run_ready, uncached};

/// The direction of a migration.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Direction {
    Up,
    Down,
}

/// Runs or reverts a migration, and records that in the history.
pub(crate) fn apply<C>(
    conn: &mut C,
    migration: &dyn Migration<Pg>,
    direction: Direction,
    history: Option<&HistoryPlace>,
) -> Result<RecordedLocks>
where
    C: Connection<Backend = Pg> + LoadConnection + 'static,
{
    let apply = |conn: &mut C| apply_statements(conn, migration, direction, history);
    if migration.metadata().run_in_transaction() {
        conn.transaction(apply)
    } else {
        apply(conn)
    }
}

fn apply_statements<C>(
    conn: &mut C,
    migration: &dyn Migration<Pg>,
    direction: Direction,
    history: Option<&HistoryPlace>,
) -> Result<RecordedLocks>
where
    C: Connection<Backend = Pg> + LoadConnection + 'static,
{
    match direction {
        Direction::Up => migration.run(conn)?,
        Direction::Down => migration.revert(conn)?,
    }
    let recorded = LockRecorder { conn, history }.record();
    run_ready(uncached(conn).execute(RecordMigration {
        schema: recorded.history_schema.clone(),
        version: migration.name().version().to_string(),
        reverted: direction == Direction::Down,
    }))?;
    Ok(recorded)
}
