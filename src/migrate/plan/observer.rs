//! The second session on the scratch database, which reads the locks of the first.
//!
//! A statement of the migrations' own session could disturb them: a migration may set its
//! transaction's isolation level only before the first query.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use diesel::Connection;
use diesel::connection::LoadConnection;
use diesel::dsl::SqlTypeOf;
use diesel::pg::Pg;
use diesel::prelude::*;

use super::relations::{Relations, load_relations};
use crate::error::Result;
use crate::migrate::identifier::render;
use crate::session::{Driver, run_ready, uncached};
use crate::tables::pg_locks;
use crate::types::{LockMode, LockType, RelationKind, TableLockMode};

/// The pause between two looks at a statement that cannot run in a transaction.
const PAUSE: Duration = Duration::from_millis(1);

/// The strongest mode in which each relation is locked, by oid.
pub(super) type HeldLocks = BTreeMap<u32, TableLockMode>;

/// The type of a lock, its relation, its mode, and whether it is granted.
type LockRow = (LockType, Option<u32>, LockMode, bool);

/// The session that reads the locks of another.
pub(super) struct Observer<C> {
    conn: C,
    /// The process id of the other session.
    pid: i32,
}

/// The locks of the other session at one moment.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) locks: HeldLocks,
    pub(super) is_in_transaction: bool,
    is_waiting: bool,
}

impl<C> Observer<C>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    pub(super) fn new(conn: C, pid: i32) -> Self {
        Self { conn, pid }
    }

    /// Reads the locks that the other session holds or awaits.
    pub(super) fn look(&mut self) -> Result<Seen> {
        let mut seen = Seen::default();
        for (lock_type, relation, mode, granted) in self.locks()? {
            seen.is_waiting |= !granted;
            // Each open transaction holds a lock on its own id.
            seen.is_in_transaction |= lock_type == LockType::VirtualXid && granted;
            if let (Some(oid), Some(mode)) = (relation, mode.table_lock_mode()) {
                add(&mut seen.locks, oid, mode);
            }
        }
        Ok(seen)
    }

    fn locks(&mut self) -> Result<Vec<LockRow>> {
        type Columns = SqlTypeOf<(
            pg_locks::locktype,
            pg_locks::relation,
            pg_locks::mode,
            pg_locks::granted,
        )>;
        let columns = (
            pg_locks::locktype,
            pg_locks::relation,
            pg_locks::mode,
            pg_locks::granted,
        );
        let query = pg_locks::table.select(columns);
        let query = query.filter(pg_locks::pid.eq(self.pid));
        let mut driver = uncached(&mut self.conn);
        Ok(run_ready(driver.load::<_, Columns, LockRow>(query))?)
    }

    /// Reads the relations, without those of open transactions.
    pub(super) fn relations(&mut self) -> Result<Relations> {
        load_relations(&mut self.conn)
    }

    /// Runs a statement that cannot run in a transaction, and returns the locks that were seen.
    ///
    /// Its locks end with it. So this session holds all tables in a mode that conflicts with every
    /// such statement until that waits for the first one. Further locks are seen if they last a
    /// moment.
    pub(super) fn watch<T: Send>(
        &mut self,
        run: impl FnOnce() -> T + Send,
    ) -> Result<(T, HeldLocks)> {
        // A role may lack the privilege for some table.
        let is_held = self.lock_all_tables().is_ok();
        let (value, watched) = thread::scope(|scope| {
            let running = scope.spawn(run);
            let watched = self.watch_until(is_held, || running.is_finished());
            // Without this it would wait for ever.
            let released = self.conn.batch_execute("ROLLBACK");
            let value = running.join();
            (
                value,
                watched.and_then(|locks| Ok(released.map(|()| locks)?)),
            )
        });
        match value {
            Ok(value) => Ok((value, watched?)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    fn watch_until(
        &mut self,
        mut is_held: bool,
        is_finished: impl Fn() -> bool,
    ) -> Result<HeldLocks> {
        if !is_held {
            self.conn.batch_execute("ROLLBACK")?;
        }
        let mut locks = HeldLocks::new();
        while !is_finished() {
            let seen = self.look()?;
            for (oid, mode) in seen.locks {
                add(&mut locks, oid, mode);
            }
            if seen.is_waiting && is_held {
                self.conn.batch_execute("ROLLBACK")?;
                is_held = false;
            }
            thread::sleep(PAUSE);
        }
        Ok(locks)
    }

    fn lock_all_tables(&mut self) -> Result<()> {
        use RelationKind::{PartitionedTable, Table};
        let relations = self.relations()?;
        let tables = relations.values();
        let tables = tables.filter(|it| matches!(it.kind, Table | PartitionedTable));
        let names = tables.map(|it| {
            Ok(format!(
                "ONLY {}",
                render([&*it.schema, &*it.name].into_iter())?
            ))
        });
        let names = names.collect::<Result<Vec<_>>>()?;
        self.conn.batch_execute("BEGIN")?;
        if !names.is_empty() {
            let statement = format!("LOCK TABLE {} IN SHARE MODE", names.join(", "));
            self.conn.batch_execute(&statement)?;
        }
        Ok(())
    }
}

fn add(locks: &mut HeldLocks, oid: u32, mode: TableLockMode) {
    let strongest = locks.entry(oid).or_insert(mode);
    *strongest = mode.max(*strongest);
}
