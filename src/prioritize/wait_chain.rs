//! The chain of waits from the prioritized session to its blockers.

use std::collections::{HashMap, HashSet, VecDeque};

use super::process::{Process, Processes};
use crate::error::Result;
use crate::session::Driver;
use crate::signal::{Block, Wait};

/// The sessions on the way to the roots, each with its blockers, in the order of their pids.
pub(super) type Edges = Vec<(i32, Vec<i32>)>;

/// The number that stands for each prepared transaction among the pids of blockers.
pub(super) const PREPARED: i32 = 0;

/// The sessions that block the prioritized session, each with the session that it blocks.
#[derive(Debug, Default)]
pub(super) struct WaitChain {
    prioritized: i32,
    /// The blockers of each session whose waits were read; empty if it does not wait.
    blockers: HashMap<i32, Vec<i32>>,
    /// The session of each process that waits.
    leaders: HashMap<i32, i32>,
    /// The session that each blocker blocks, on the shortest path from the prioritized session.
    blocked: HashMap<i32, i32>,
    /// The waits of each session, in the order of their processes.
    waits: HashMap<i32, Vec<Wait>>,
    /// The virtual transaction of each process.
    transactions: HashMap<i32, String>,
    /// The prioritized sessions of all watchers.
    marked: HashSet<i32>,
    /// The sessions that may build an index concurrently.
    indexing: HashSet<i32>,
}

impl WaitChain {
    /// Reads the waits of the prioritized session and of its blockers.
    pub(super) async fn read(driver: &mut impl Driver, prioritized: i32) -> Result<Self> {
        type Columns = <Processes as diesel::query_builder::Query>::SqlType;
        let processes = driver.load::<_, Columns, Process>(Processes { prioritized });
        let processes = processes.await?;
        Ok(Self::follow(prioritized, processes))
    }

    /// Follows the waits from the prioritized session to all its blockers.
    pub(super) fn follow(prioritized: i32, processes: impl IntoIterator<Item = Process>) -> Self {
        let mut chain = Self {
            prioritized,
            ..Self::default()
        };
        for process in processes {
            chain.add(process);
        }
        for waits in chain.waits.values_mut() {
            waits.sort_by_key(|wait| wait.process);
        }
        chain.blocked = chain.shortest_paths(prioritized, |_| true);
        chain.blocked.remove(&prioritized);
        chain
    }

    pub(super) fn prioritized(&self) -> i32 {
        self.prioritized
    }

    fn add(&mut self, process: Process) {
        let (pid, session) = (process.pid, process.session);
        if process.is_marked {
            self.marked.insert(pid);
        }
        if process.builds_index {
            self.indexing.insert(pid);
        }
        if let Some(transaction) = &process.virtual_transaction {
            self.transactions.insert(pid, transaction.clone());
        }
        if let Some(blockers) = process.blockers {
            self.blockers.insert(pid, blockers);
        }
        let (Some(lock), Some(transaction)) = (process.awaited, process.virtual_transaction) else {
            return;
        };
        self.leaders.insert(pid, session);
        self.waits.entry(session).or_default().push(Wait {
            process: pid,
            lock,
            start: process.wait_start,
            transaction,
        });
    }

    /// Returns the session before each session that can be reached from `start`.
    ///
    /// The search is breadth first, and enters only sessions that `may_enter` allows. `start`
    /// itself is among the sessions if it is in a cycle.
    pub(super) fn shortest_paths(
        &self,
        start: i32,
        may_enter: impl Fn(i32) -> bool,
    ) -> HashMap<i32, i32> {
        let mut before = HashMap::new();
        let mut next = VecDeque::from([start]);
        while let Some(waiter) = next.pop_front() {
            for &blocker in self.blockers_of(waiter) {
                if may_enter(blocker) && !before.contains_key(&blocker) {
                    before.insert(blocker, waiter);
                    next.push_back(blocker);
                }
            }
        }
        before
    }

    fn blockers_of(&self, session: i32) -> &[i32] {
        self.blockers.get(&session).map_or(&[], Vec::as_slice)
    }

    pub(super) fn edges(&self) -> Edges {
        let edges = self
            .blockers
            .iter()
            .map(|(pid, blockers)| (*pid, blockers.clone()));
        sorted(edges.collect())
    }

    /// Returns the blockers that do not wait; [`PREPARED`] stands for prepared transactions.
    ///
    /// A blocker whose waits were not read may wait: it came up while the server read them.
    pub(super) fn roots(&self) -> Vec<i32> {
        self.select_blockers(|pid| self.blockers.get(&pid).is_some_and(Vec::is_empty))
    }

    /// Returns the blockers of the prioritized session itself.
    pub(super) fn direct(&self) -> Vec<i32> {
        self.select_blockers(|pid| self.blocked_by(pid) == Some(self.prioritized))
    }

    fn select_blockers(&self, is_selected: impl Fn(i32) -> bool) -> Vec<i32> {
        let blockers = self.blocked.keys().copied();
        let mut pids: Vec<_> = blockers.filter(|pid| is_selected(*pid)).collect();
        pids.sort_unstable();
        pids
    }

    /// Returns the session of a process that waits.
    pub(super) fn session_of(&self, process: i32) -> Option<i32> {
        self.leaders.get(&process).copied()
    }

    /// Returns the waiting processes of these sessions.
    pub(super) fn processes_of(&self, sessions: &[i32]) -> Vec<i32> {
        let leaders = self.leaders.iter();
        let selected = leaders.filter(|(_, session)| sessions.contains(session));
        selected.map(|(process, _)| *process).collect()
    }

    /// Returns whether `pid` is a prioritized session too.
    pub(super) fn is_marked(&self, pid: i32) -> bool {
        self.marked.contains(&pid)
    }

    /// Returns whether `pid` builds an index concurrently, or may do so.
    pub(super) fn builds_index(&self, pid: i32) -> bool {
        self.indexing.contains(&pid)
    }

    /// Returns the block of the prioritized session by `pid`.
    pub(super) fn block_by(&self, pid: i32) -> Block {
        let transaction_of = |pid| self.transactions.get(pid).cloned();
        Block {
            blocker: pid,
            prioritized: self.prioritized,
            transaction: transaction_of(&self.prioritized),
            waits: self.waits_of(self.prioritized),
            blocker_transaction: transaction_of(&pid),
        }
    }

    /// Returns the waits of a session, one per process.
    pub(super) fn waits_of(&self, session: i32) -> Vec<Wait> {
        self.waits.get(&session).cloned().unwrap_or_default()
    }

    /// Returns the sessions that prepared transactions block.
    pub(super) fn blocked_by_prepared(&self) -> Vec<i32> {
        let lists_one = |(_, blockers): &(&i32, &Vec<i32>)| blockers.contains(&PREPARED);
        let blocked = self.blockers.iter().filter(lists_one);
        blocked.map(|(pid, _)| *pid).collect()
    }

    /// Returns the session that `pid` blocks on the shortest path from the prioritized session.
    pub(super) fn blocked_by(&self, pid: i32) -> Option<i32> {
        self.blocked.get(&pid).copied()
    }

    /// Returns the sessions on the shortest path from the prioritized session to `pid`.
    pub(super) fn path_to(&self, pid: i32) -> Vec<i32> {
        let waiter_of = |pid: &i32| self.blocked_by(*pid);
        let mut path: Vec<_> = std::iter::successors(Some(pid), waiter_of).collect();
        path.reverse();
        path
    }
}

/// Sorts the sessions, and the blockers of each.
pub(super) fn sorted(mut edges: Edges) -> Edges {
    edges
        .iter_mut()
        .for_each(|(_, blockers)| blockers.sort_unstable());
    edges.sort_unstable();
    edges
}

#[cfg(test)]
pub(super) mod tests;
