//! The locks that a list selects.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::rc::Rc;

use diesel::PgConnection;
use diesel::pg::PgRowByRowLoadingMode;
use diesel::prelude::*;
use diesel_pglock::prelude::*;
use diesel_pglock::schema::{pg_class, pg_locks};
use diesel_pglock::{LockType, PgLock, WaitGraph, WaitNode};

use super::filter::Filter;
use super::prepared::Prepared;
use super::relation;
use super::row::{Blocker, Row};
use crate::connect::{Database, LimitArgs, OtherDatabases, Waits};
use crate::failure::Failure;

/// The locks to list.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    pub pids: Vec<i32>,
    pub on: Vec<String>,
    pub filters: Vec<Filter>,
    pub blockers: Blockers,
}

/// The blockers that are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Blockers {
    /// Locks are listed, and no blockers.
    #[default]
    None,
    /// Each awaited lock is listed with its direct blockers, which may wait themselves.
    Direct,
    /// Each awaited lock is listed with its roots, behind all waiters between them.
    Roots,
}

/// The rows of a list, the longest waits first, held locks last.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    pub rows: Vec<Row>,
    /// The number of rows before the limit.
    pub found: usize,
    /// The deadlocks, which have no root.
    pub cycles: Vec<Vec<i32>>,
}

impl Listing {
    /// Adds the names of relations of other databases.
    pub fn name_relations(
        &mut self,
        database: &Database,
        timeout: LimitArgs,
    ) -> Result<(), Failure> {
        let locks = self.rows.iter().map(|row| &row.lock);
        let others = OtherDatabases::of_locks(locks, database, timeout)?;
        for lock in self.rows.iter_mut().map(|row| &mut row.lock) {
            lock.relation = lock.relation.take().or_else(|| others.relation(lock));
        }
        Ok(())
    }
}

impl Selection {
    pub fn is_blocking(&self) -> bool {
        self.blockers != Blockers::None
    }

    /// Returns the same selection, with the blockers that signals go to.
    pub fn for_signals(&self, hits_queue: bool) -> Self {
        let mut selection = self.clone();
        if self.is_blocking() && !hits_queue {
            selection.blockers = Blockers::Roots;
        }
        selection
    }

    /// Loads no more rows than the limit, which is `usize::MAX` for all.
    pub fn load(&self, conn: &mut PgConnection, limit: usize) -> Result<Listing, Failure> {
        let on = self.on.iter().map(|name| relation::find(conn, name));
        let on = on.collect::<Result<Vec<u32>, Failure>>()?;
        let mut rows = FirstRows::new(limit);
        let cycles = match self.blockers {
            Blockers::None => self.locks(conn, on, &mut rows).map(|()| Vec::new())?,
            Blockers::Direct | Blockers::Roots => self.waits(conn, &on, &mut rows)?,
        };
        Ok(Listing {
            found: rows.found,
            rows: rows.sorted(),
            cycles,
        })
    }

    fn matches(&self, row: &Row) -> bool {
        self.filters.iter().all(|filter| filter.matches(row))
    }

    /// Loads the waits that concern the selected sessions, locks and tables; all by default.
    pub fn graph(&self, conn: &mut PgConnection) -> Result<WaitGraph, Failure> {
        let on = self.on.iter().map(|name| relation::find(conn, name));
        let on = on.collect::<Result<Vec<u32>, Failure>>()?;
        let graph = Waits::load(conn)?.noted()?;
        if self.pids.is_empty() && on.is_empty() && self.filters.is_empty() {
            return Ok(graph);
        }
        let has_wait = |node: &WaitNode| {
            Row::awaited(node).is_some_and(|row| is_on(&row, &on) && self.matches(&row))
        };
        let needs_wait = !on.is_empty() || !self.filters.is_empty();
        Ok(graph.related_to(|node| self.is_of_pids(node) && (!needs_wait || has_wait(node))))
    }

    /// Leaves out the locks of the own session, which only this query takes.
    ///
    /// The locks are read one by one: a server may have more than fit into memory.
    fn locks(
        &self,
        conn: &mut PgConnection,
        on: Vec<u32>,
        rows: &mut FirstRows,
    ) -> Result<(), Failure> {
        let own = conn.backend_pid()?;
        let prepared = Prepared::load(conn)?;
        let mut query = PgLock::query()
            .filter(pg_locks::pid.is_distinct_from(own))
            .into_boxed();
        if !self.pids.is_empty() {
            query = query.filter(pg_locks::pid.eq_any(&self.pids));
        }
        if !on.is_empty() {
            query = query.filter(pg_class::oid.eq_any(on.clone()));
        }
        for lock in query.load_iter::<PgLock, PgRowByRowLoadingMode>(conn)? {
            let row = prepared.row(lock?);
            rows.extend(Some(row).filter(|row| self.matches(row)));
        }
        if !on.is_empty() {
            rows.extend(self.row_waits(conn, &on)?);
        }
        Ok(())
    }

    /// Returns the waits for rows of some tables, which await a transaction.
    fn row_waits(&self, conn: &mut PgConnection, on: &[u32]) -> Result<Vec<Row>, Failure> {
        let graph = Waits::load(conn)?.noted()?;
        let waiters = graph.nodes().filter(|node| self.is_of_pids(node));
        let rows = waiters.filter_map(Row::awaited);
        let awaits_transaction = |row: &Row| row.lock.lock_type == LockType::TransactionId;
        Ok(rows
            .filter(|row| awaits_transaction(row) && is_on(row, on) && self.matches(row))
            .collect())
    }

    fn is_of_pids(&self, node: &WaitNode) -> bool {
        self.pids.is_empty() || node.pid.is_some_and(|pid| self.pids.contains(&pid))
    }

    /// Returns the deadlocks.
    fn waits(
        &self,
        conn: &mut PgConnection,
        on: &[u32],
        rows: &mut FirstRows,
    ) -> Result<Vec<Vec<i32>>, Failure> {
        let graph = Waits::load(conn)?.noted()?;
        let blockers = BlockerRows::of(&graph);
        for waiter in graph.nodes().filter(|node| self.is_of_pids(node)) {
            let Some(row) = Row::awaited(waiter).filter(|row| is_on(row, on)) else {
                continue;
            };
            let found = blockers.of_waiter(&row, waiter, self.blockers);
            rows.extend(found.into_iter().filter(|row| self.matches(row)));
        }
        Ok(graph.cycles())
    }
}

fn is_on(row: &Row, on: &[u32]) -> bool {
    let relation = row.lock.relation.as_ref().map(|it| it.oid);
    on.is_empty() || relation.is_some_and(|oid| on.contains(&oid))
}

/// The blockers of a graph, each made once.
struct BlockerRows<'g> {
    graph: &'g WaitGraph,
    blockers: HashMap<Name<'g>, Rc<Blocker>>,
}

/// The pid of a session, or the name of a prepared transaction.
type Name<'g> = (Option<i32>, Option<&'g str>);

fn name(node: &WaitNode) -> Name<'_> {
    (node.pid, node.gid.as_deref())
}

impl<'g> BlockerRows<'g> {
    fn of(graph: &'g WaitGraph) -> Self {
        let mut waiters = waiting_processes(graph);
        let counts = graph.blocked_counts().filter(|(_, count)| *count > 0);
        let blocker = |(node, count): (&'g WaitNode, usize)| {
            let waiters = waiters.remove(&name(node)).unwrap_or_default();
            (name(node), Rc::new(Blocker::new(node, count, waiters)))
        };
        Self {
            graph,
            blockers: counts.map(blocker).collect(),
        }
    }

    /// Returns a row for each blocker of the waiter.
    fn of_waiter(&self, row: &Row, waiter: &WaitNode, which: Blockers) -> Vec<Row> {
        let pid = waiter.pid.unwrap_or_default();
        let nodes: Vec<&WaitNode> = match which {
            Blockers::Roots => self.graph.roots_of(pid).collect(),
            _ => self.graph.blockers_of(pid).collect(),
        };
        let blockers = nodes.into_iter().map(name);
        let blockers = blockers.filter_map(|name| self.blockers.get(&name));
        let row = |blocker: &Rc<Blocker>| Row {
            blocker: Some(Rc::clone(blocker)),
            ..row.clone()
        };
        blockers.map(row).collect()
    }
}

/// Returns the processes that wait directly for each blocker.
fn waiting_processes(graph: &WaitGraph) -> HashMap<Name<'_>, Vec<i32>> {
    let mut waiters = HashMap::<_, Vec<i32>>::new();
    for waiter in graph.nodes() {
        let process = waiter.wait.as_ref().and_then(|wait| wait.lock.pid);
        for blocker in waiter.pid.iter().flat_map(|pid| graph.blockers_of(*pid)) {
            waiters.entry(name(blocker)).or_default().extend(process);
        }
    }
    waiters
}

/// The first rows by the order of lists, and the number of all.
struct FirstRows {
    limit: usize,
    rows: Vec<Row>,
    found: usize,
}

impl FirstRows {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            rows: Vec::new(),
            found: 0,
        }
    }

    fn extend(&mut self, rows: impl IntoIterator<Item = Row>) {
        for row in rows {
            self.found += 1;
            self.rows.push(row);
            // Seldom, since each time costs a sort.
            if self.rows.len() > self.limit.saturating_mul(2).max(1_000) {
                self.cut();
            }
        }
    }

    fn cut(&mut self) {
        sort(&mut self.rows);
        self.rows.truncate(self.limit);
    }

    fn sorted(mut self) -> Vec<Row> {
        self.cut();
        self.rows
    }
}

fn sort(rows: &mut [Row]) {
    rows.sort_by_key(|row| {
        let blocker = row.blocker.as_ref();
        let blocks = Reverse(blocker.map(|it| it.blocks));
        let age = Reverse(age(&row.lock));
        (
            row.lock.granted,
            age,
            row.lock.pid,
            blocks,
            blocker.map(|it| it.pid),
        )
    });
}

/// Returns how long a wait lasts, or the transaction that holds the lock.
fn age(lock: &PgLock) -> Option<chrono::TimeDelta> {
    let activity = lock.activity.as_ref();
    if lock.granted {
        return activity.and_then(|it| it.transaction_duration);
    }
    // PostgreSQL 13 has no `waitstart`: the age of the query is the best estimate.
    lock.wait_duration.or(activity.and_then(|it| it.duration))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rows_of_many_are_kept() {
        let mut rows = FirstRows::new(3);
        for pid in (0..10_000).rev() {
            let mut lock = PgLock::default();
            (lock.pid, lock.granted) = (Some(pid), pid % 2 == 0);
            rows.extend([Row::from(lock)]);
            assert!(rows.rows.len() <= 1_000);
        }
        assert_eq!(rows.found, 10_000);
        let first: Vec<_> = rows.sorted().iter().map(|row| row.lock.pid).collect();
        assert_eq!(first, [Some(1), Some(3), Some(5)]);
    }
}
