//! The sessions that the watcher may signal.

use diesel::prelude::*;

use super::cycle::{Cycle, read_cycles};
use super::protection::Protection;
use super::settings::Victims;
use super::statement::HasSynchronousStandby;
use super::wait_chain::WaitChain;
use crate::error::Result;
use crate::session::{ColumnsOf, Driver};
use crate::signal::{Block, WaitPath};
use crate::tables::pg_locks;
use crate::views::BlockedPgLock;
use crate::views::blocking_table as blocking;

/// A blocker that is to be signalled: at the end of its grace period, or at once in a cycle.
pub(super) struct Target {
    pub(super) row: BlockedPgLock,
    /// The waits that lead to it from the prioritized session.
    pub(super) wait_path: WaitPath,
    pub(super) block: Block,
    /// Is `true` if it waits for the prioritized session itself: a deadlock.
    pub(super) is_in_cycle: bool,
    pub(super) protection: Option<Protection>,
}

/// Finds the targets among the blockers of the session `prioritized`.
pub(super) async fn find_targets(
    driver: &mut impl Driver,
    prioritized: i32,
    victims: Victims,
) -> Result<Vec<Target>> {
    let (chain, cycles) = read_cycles(driver, prioritized).await?;
    let pids = select(&chain, &cycles, victims);
    if pids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = blocked_locks(driver, &chain, pids).await?;
    let has_standby = hides_waits(&rows) && driver.ask(HasSynchronousStandby).await?;
    let target = |row: BlockedPgLock| {
        let pid = row.blocking_pid;
        let cycle = cycles.iter().find(|cycle| cycle.blocker() == pid);
        Target {
            wait_path: wait_path(&chain, cycle, pid),
            block: chain.block_by(pid),
            is_in_cycle: cycle.is_some(),
            protection: protection(&row, &chain, has_standby),
            row,
        }
    };
    Ok(rows.into_iter().map(target).collect())
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

/// Reads one row for each of the blockers `pids`: the lock that it blocks on the chain.
async fn blocked_locks(
    driver: &mut impl Driver,
    chain: &WaitChain,
    pids: Vec<i32>,
) -> Result<Vec<BlockedPgLock>> {
    let blocked = pids.iter().filter_map(|&pid| chain.blocked_by(pid));
    let blocked: Vec<_> = blocked.collect();
    let query = BlockedPgLock::query()
        .filter(pg_locks::pid.eq_any(chain.processes_of(&blocked)))
        .filter(blocking::pid.eq_any(pids))
        .order_by((blocking::pid, pg_locks::pid));
    let rows = driver.load::<_, ColumnsOf<BlockedPgLock>, BlockedPgLock>(query);
    let mut rows = rows.await?;
    rows.retain(|row| {
        let session = row.lock.pid.and_then(|pid| chain.session_of(pid));
        session.is_some() && session == chain.blocked_by(row.blocking_pid)
    });
    rows.dedup_by_key(|row| row.blocking_pid);
    Ok(rows)
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
    let activity = row.blocking_activity.as_ref();
    activity.and_then(|activity| Protection::of(activity, has_standby))
}
