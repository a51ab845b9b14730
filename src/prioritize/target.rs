//! The sessions that the watcher may signal.

use diesel::dsl::not;
use diesel::prelude::*;

use super::cycle::{Cycle, read_cycles};
use super::nameless_rows::NamelessRows;
use super::prepared_blockers::read_prepared_blockers;
use super::protection::Protection;
use super::settings::Victims;
use super::statement::HasSynchronousStandby;
use super::wait_chain::{Edges, PREPARED, WaitChain};
use crate::error::{Error, Result};
use crate::session::{ColumnsOf, Driver};
use crate::signal::{Block, WaitPath};
use crate::tables::{pg_locks, pg_stat_activity};
use crate::views::blocking_table as blocking;
use crate::views::{BlockedPgLock, PgActivity, PgLock, PreparedTransaction};

/// A blocker that is to be signalled: at the end of its grace period, or at once in a cycle.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) row: BlockedPgLock,
    /// The prepared transaction; `None` for a session.
    pub(super) prepared: Option<PreparedTransaction>,
    /// The waits that lead to it from the prioritized session.
    pub(super) wait_path: WaitPath,
    pub(super) block: Block,
    /// Is `true` if it waits for the prioritized session itself: a deadlock.
    pub(super) is_in_cycle: bool,
    pub(super) protection: Option<Protection>,
}

/// The waits of the prioritized session and its blockers at one poll.
pub(super) struct Waits {
    chain: WaitChain,
    cycles: Vec<Cycle>,
    pids: Vec<i32>,
    victims: Victims,
}

impl Waits {
    /// Reads the waits, and selects the blockers that are targets.
    pub(super) async fn read(
        driver: &mut impl Driver,
        prioritized: i32,
        victims: Victims,
    ) -> Result<Self> {
        let (chain, cycles) = read_cycles(driver, prioritized).await?;
        let pids = select(&chain, &cycles, victims);
        Ok(Self {
            chain,
            cycles,
            pids,
            victims,
        })
    }

    /// Returns the sessions on the way to the roots, each with its blockers.
    pub(super) fn edges(&self) -> Edges {
        self.chain.edges()
    }

    /// Returns whether the present wait of the prioritized session can be known again later.
    pub(super) fn are_dated(&self) -> bool {
        self.chain.block_by(0).is_dated()
    }

    /// Reads the rows of the targets, without names if the names cannot be read.
    ///
    /// The error is that of the names. A session that locks a catalog must not stop the signals.
    pub(super) async fn targets(
        &self,
        driver: &mut impl Driver,
    ) -> Result<(Vec<Target>, Option<Error>)> {
        if self.pids.is_empty() {
            return Ok((Vec::new(), None));
        }
        let error = match self.named_targets(driver).await {
            Ok(targets) => return Ok((targets, None)),
            Err(error) => error,
        };
        let rows = driver.load::<_, ColumnsOf<BlockedPgLock>, BlockedPgLock>(NamelessRows {
            processes: self.blocked_processes(),
            blockers: self.pids.clone(),
        });
        let rows = self.distinct(rows.await?);
        Ok((self.session_targets(driver, rows).await?, Some(error)))
    }

    async fn named_targets(&self, driver: &mut impl Driver) -> Result<Vec<Target>> {
        let prepared = self.prepared(driver).await?;
        let is_found = |pid: &i32| *pid == PREPARED && prepared.is_some();
        let sessions = self.pids.iter().copied().filter(|pid| !is_found(pid));
        let sessions = self.sessions(driver, sessions.collect()).await?;
        Ok(prepared.into_iter().flatten().chain(sessions).collect())
    }

    /// Reads the targets that are prepared transactions; `None` if this role cannot see the
    /// waits for them.
    async fn prepared(&self, driver: &mut impl Driver) -> Result<Option<Vec<Target>>> {
        if !self.pids.contains(&PREPARED) {
            return Ok(None);
        }
        let mut blocked = self.chain.blocked_by_prepared();
        if self.victims == Victims::All {
            blocked.retain(|pid| *pid == self.chain.prioritized());
        }
        let processes = self.chain.processes_of(&blocked);
        if processes.is_empty() {
            return Ok(None);
        }
        let blockers = read_prepared_blockers(driver, processes).await?;
        let target = |(lock, prepared)| Target {
            prepared: Some(prepared),
            ..self.target(row(lock, PREPARED, None), None)
        };
        Ok(Some(blockers.into_iter().map(target).collect()))
    }

    /// Reads the rows of the targets that are sessions.
    async fn sessions(&self, driver: &mut impl Driver, pids: Vec<i32>) -> Result<Vec<Target>> {
        let mut rows = self.blocked_locks(driver, &pids).await?;
        let found: Vec<_> = rows.iter().map(|row| row.blocking_pid).collect();
        let hidden = pids.iter().filter(|pid| !found.contains(pid));
        let (prioritized, hidden) = (self.chain.prioritized(), hidden.copied().collect());
        rows.extend(blocked_by_hidden_waits(driver, prioritized, hidden).await?);
        self.session_targets(driver, rows).await
    }

    /// Returns the targets of these rows. A role without privileges asks the server once more.
    async fn session_targets(
        &self,
        driver: &mut impl Driver,
        rows: Vec<BlockedPgLock>,
    ) -> Result<Vec<Target>> {
        let has_standby = hides_waits(&rows) && driver.ask(HasSynchronousStandby).await?;
        let target = |row: BlockedPgLock| {
            let protection = protection(&row, &self.chain, has_standby);
            self.target(row, protection)
        };
        Ok(rows.into_iter().map(target).collect())
    }

    /// Reads one row for each of the blockers `pids`: the lock that it blocks on the chain.
    async fn blocked_locks(
        &self,
        driver: &mut impl Driver,
        pids: &[i32],
    ) -> Result<Vec<BlockedPgLock>> {
        let query = BlockedPgLock::query()
            .filter(pg_locks::pid.eq_any(self.blocked_processes()))
            .filter(blocking::pid.eq_any(pids.to_vec()))
            .order_by((blocking::pid, pg_locks::pid));
        let rows = driver.load::<_, ColumnsOf<BlockedPgLock>, BlockedPgLock>(query);
        Ok(self.distinct(rows.await?))
    }

    /// Returns the processes that the targets block on the chain.
    fn blocked_processes(&self) -> Vec<i32> {
        let blocked = self
            .pids
            .iter()
            .filter_map(|&pid| self.chain.blocked_by(pid));
        self.chain.processes_of(&blocked.collect::<Vec<_>>())
    }

    /// Returns one row for each blocker: the lock that it blocks on the chain.
    fn distinct(&self, mut rows: Vec<BlockedPgLock>) -> Vec<BlockedPgLock> {
        let chain = &self.chain;
        rows.retain(|row| {
            let session = row.lock.pid.and_then(|pid| chain.session_of(pid));
            session.is_some() && session == chain.blocked_by(row.blocking_pid)
        });
        rows.dedup_by_key(|row| row.blocking_pid);
        rows
    }

    fn target(&self, row: BlockedPgLock, protection: Option<Protection>) -> Target {
        let pid = row.blocking_pid;
        let cycle = self.cycles.iter().find(|cycle| cycle.blocker() == pid);
        Target {
            wait_path: wait_path(&self.chain, cycle, pid),
            block: self.chain.block_by(pid),
            is_in_cycle: cycle.is_some(),
            protection,
            prepared: None,
            row,
        }
    }
}

/// Returns the pids of the targets. A cycle has no root: there its direct blocker is one.
fn select(chain: &WaitChain, cycles: &[Cycle], victims: Victims) -> Vec<i32> {
    match victims {
        Victims::Roots => {
            let closing = cycles.iter().map(Cycle::blocker);
            chain.roots().into_iter().chain(closing).collect()
        }
        Victims::All => chain.direct(),
    }
}

/// Returns the waits that justify a signal: the path to the session, or its whole cycle.
fn wait_path(chain: &WaitChain, cycle: Option<&Cycle>, pid: i32) -> WaitPath {
    match cycle {
        Some(cycle) => WaitPath::through(&cycle.sessions),
        None => WaitPath::through(&chain.path_to(pid)),
    }
}

/// Returns a row for each of the blockers `pids`, whose waiters this role cannot see, with the
/// lock that the prioritized session waits for.
///
/// The wait of a parallel worker belongs to its session only for a role that may see so.
async fn blocked_by_hidden_waits(
    driver: &mut impl Driver,
    prioritized: i32,
    pids: Vec<i32>,
) -> Result<Vec<BlockedPgLock>> {
    if pids.is_empty() {
        return Ok(Vec::new());
    }
    let awaited = PgLock::query()
        .filter(pg_locks::pid.eq(prioritized))
        .filter(not(pg_locks::granted));
    let awaited = driver.load::<_, ColumnsOf<PgLock>, PgLock>(awaited).await?;
    let lock = awaited.into_iter().next().unwrap_or_default();
    let activities = PgActivity::query().filter(pg_stat_activity::pid.eq_any(pids.clone()));
    let activities = driver.load::<_, ColumnsOf<PgActivity>, PgActivity>(activities);
    let activities = activities.await?;
    let blocked = |pid: i32| {
        let activity = activities.iter().find(|it| it.pid == pid);
        row(lock.clone(), pid, activity.cloned())
    };
    Ok(pids.into_iter().map(blocked).collect())
}

fn row(lock: PgLock, blocking_pid: i32, activity: Option<PgActivity>) -> BlockedPgLock {
    BlockedPgLock {
        lock,
        blocking_pid,
        blocking_activity: activity,
    }
}

/// Returns whether this role lacks the privilege to read the wait event of one of the blockers.
fn hides_waits(rows: &[BlockedPgLock]) -> bool {
    let mut activities = rows.iter().filter_map(|row| row.blocking_activity.as_ref());
    activities.any(|it| it.backend_type.is_none())
}

/// Returns the reason to spare a blocker.
fn protection(row: &BlockedPgLock, chain: &WaitChain, has_standby: bool) -> Option<Protection> {
    if chain.is_marked(row.blocking_pid) {
        return Some(Protection::Prioritized);
    }
    if chain.builds_index(row.blocking_pid) {
        return Some(Protection::ConcurrentIndex);
    }
    let activity = row.blocking_activity.as_ref();
    activity.and_then(|activity| Protection::of(activity, has_standby))
}
