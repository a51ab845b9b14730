//! Whom a session waits for, directly and through others.

use std::collections::{HashMap, HashSet, VecDeque};

use super::statement::Process;
use crate::signal::{Block, Wait};

/// The sessions that hold one session up, each with the session that it blocks.
#[derive(Debug)]
pub(crate) struct WaitChain {
    us: i32,
    /// Who blocks whom, by who waits.
    blockers: HashMap<i32, Vec<i32>>,
    /// The processes that wait, each with the session that it works for.
    leaders: HashMap<i32, i32>,
    /// By pid, whom it blocks on the shortest way from us.
    blocks: HashMap<i32, i32>,
    /// What our processes wait for.
    waits: Vec<Wait>,
    /// By process, its virtual transaction.
    transactions: HashMap<i32, String>,
    /// The sessions that are prioritized, ours among them.
    marked: HashSet<i64>,
}

impl WaitChain {
    /// Walks from `us` to everybody in the way; a cycle is walked once.
    pub(crate) fn walk(us: i32, processes: impl IntoIterator<Item = Process>) -> Self {
        let (mut blockers, mut leaders) = (HashMap::<_, Vec<_>>::new(), HashMap::new());
        let (mut waits, mut transactions) = (Vec::new(), HashMap::new());
        let mut marked = HashSet::new();
        for mut process in processes {
            if process.awaited.is_some() {
                leaders.insert(process.pid, process.session);
                let pids = std::mem::take(&mut process.blockers);
                blockers.entry(process.session).or_default().extend(pids);
            }
            transactions.insert(process.pid, process.virtual_transaction.clone());
            marked.extend(&process.marks);
            let is_ours = process.session == us;
            waits.extend(wait_of(process).filter(|_| is_ours));
        }
        waits.sort_by_key(|wait| wait.process);
        let mut blocks = HashMap::new();
        let mut next = VecDeque::from([us]);
        while let Some(waiter) = next.pop_front() {
            for &blocker in blockers.get(&waiter).into_iter().flatten() {
                if blocker != us && !blocks.contains_key(&blocker) {
                    blocks.insert(blocker, waiter);
                    next.push_back(blocker);
                }
            }
        }
        Self {
            us,
            blockers,
            leaders,
            blocks,
            waits,
            transactions,
            marked,
        }
    }

    /// Those who wait for nobody; pid 0 is a prepared transaction.
    pub(crate) fn roots(&self) -> Vec<i32> {
        let waits = |pid: &i32| self.blockers.get(pid).is_some_and(|b| !b.is_empty());
        self.sorted(|pid| !waits(pid))
    }

    /// Those who block us without anybody between.
    pub(crate) fn direct(&self) -> Vec<i32> {
        self.sorted(|pid| self.blocks.get(pid) == Some(&self.us))
    }

    fn sorted(&self, mut chosen: impl FnMut(&i32) -> bool) -> Vec<i32> {
        let mut pids: Vec<_> = self.blocks.keys().copied().filter(|p| chosen(p)).collect();
        pids.sort_unstable();
        pids
    }

    /// The session that a process which waits works for.
    pub(crate) fn session_of(&self, process: i32) -> Option<i32> {
        self.leaders.get(&process).copied()
    }

    /// The processes of these sessions that wait.
    pub(crate) fn processes_of(&self, sessions: &[i32]) -> Vec<i32> {
        let of_these = self.leaders.iter().filter(|(_, it)| sessions.contains(it));
        of_these.map(|(process, _)| *process).collect()
    }

    /// Whether `pid` is a prioritized session too.
    pub(crate) fn is_marked(&self, pid: i32) -> bool {
        self.marked.contains(&i64::from(pid))
    }

    /// How `pid` keeps us waiting.
    pub(crate) fn block_by(&self, pid: i32) -> Block {
        Block {
            waits: self.waits.clone(),
            blocker_transaction: self.transactions.get(&pid).cloned(),
        }
    }

    /// Whom `pid` blocks on the shortest way from us.
    pub(crate) fn blocked_by(&self, pid: i32) -> Option<i32> {
        self.blocks.get(&pid).copied()
    }

    /// The pairs of waiter and blocker that lead from us to `pid`.
    pub(crate) fn path_to(&self, pid: i32) -> Vec<(i32, i32)> {
        let mut path = Vec::new();
        let mut blocker = pid;
        while let Some(waiter) = self.blocked_by(blocker) {
            path.push((waiter, blocker));
            blocker = waiter;
        }
        path.reverse();
        path
    }
}

fn wait_of(process: Process) -> Option<Wait> {
    let lock = process.awaited?;
    Some(Wait {
        process: process.pid,
        lock,
        start: process.wait_start,
        transaction: process.virtual_transaction,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter((pid, session, blockers): (i32, i32, Vec<i32>)) -> Process {
        Process {
            pid,
            session,
            blockers,
            awaited: Some("a lock".to_owned()),
            wait_start: None,
            virtual_transaction: format!("{pid}/1"),
            marks: Vec::new(),
        }
    }

    fn walk<const N: usize>(us: i32, waits: [(i32, Vec<i32>); N]) -> WaitChain {
        WaitChain::walk(
            us,
            waits.map(|(pid, blockers)| waiter((pid, pid, blockers))),
        )
    }

    #[test]
    fn the_roots_are_found_through_those_who_only_queue() {
        // 1 waits behind 2 and 3; 2 waits for 3 and 4, 3 for 4, 4 for nobody.
        let waits = [(1, vec![2, 3]), (2, vec![3, 4]), (3, vec![4]), (9, vec![8])];
        let chain = walk(1, waits);
        assert_eq!(chain.roots(), [4]);
        assert_eq!(chain.direct(), [2, 3]);
        assert_eq!(chain.path_to(4), [(1, 2), (2, 4)]);
        assert!(chain.path_to(8).is_empty());
    }

    #[test]
    fn a_cycle_has_no_roots_and_never_leads_to_us() {
        let chain = walk(1, [(1, vec![2]), (2, vec![3]), (3, vec![1, 2])]);
        assert!(chain.roots().is_empty());
        assert_eq!(chain.direct(), [2]);
        assert_eq!(chain.path_to(1), []);
    }

    #[test]
    fn nobody_in_the_way_is_an_empty_chain() {
        let chain = walk(1, [(2, vec![3])]);
        assert!(chain.roots().is_empty() && chain.direct().is_empty());
    }

    #[test]
    fn a_worker_waits_for_its_leader() {
        let waits = [(1, 1, vec![2]), (7, 2, vec![3]), (8, 2, vec![3])];
        let chain = WaitChain::walk(1, waits.map(waiter));
        assert_eq!(chain.roots(), [3]);
        assert_eq!(chain.path_to(3), [(1, 2), (2, 3)]);
        let mut processes = chain.processes_of(&[2]);
        processes.sort_unstable();
        assert_eq!(processes, [7, 8]);
        assert_eq!(chain.session_of(8), Some(2));
    }
    #[test]
    fn a_block_is_what_all_our_processes_wait_for() {
        let waits = [(8, 1, vec![2]), (7, 1, vec![2]), (2, 2, vec![3])];
        let mut holder = waiter((3, 3, Vec::new()));
        holder.awaited = None;
        let chain = WaitChain::walk(1, waits.map(waiter).into_iter().chain([holder]));
        let block = chain.block_by(3);
        let processes: Vec<_> = block.waits.iter().map(|wait| wait.process).collect();
        assert_eq!(processes, [7, 8]);
        assert_eq!(block.blocker_transaction.as_deref(), Some("3/1"));
        assert_eq!(chain.roots(), [3]);
    }
}
