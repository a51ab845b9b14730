//! Chains that are followed without a server.

use super::*;

fn waiter((pid, session, blockers): (i32, i32, Vec<i32>)) -> Process {
    Process {
        pid,
        session,
        blockers: (pid == session).then_some(blockers),
        awaited: Some("a lock".to_owned()),
        wait_start: None,
        virtual_transaction: Some(format!("{pid}/1")),
        is_marked: false,
        builds_index: false,
    }
}

/// A session that waits for no lock.
fn root(pid: i32) -> Process {
    Process {
        awaited: None,
        ..waiter((pid, pid, Vec::new()))
    }
}

pub(in crate::prioritize) fn follow<const N: usize>(
    prioritized: i32,
    waits: [(i32, Vec<i32>); N],
) -> WaitChain {
    let blockers: Vec<i32> = waits
        .iter()
        .flat_map(|(_, blockers)| blockers.clone())
        .collect();
    let is_root = |pid: &i32| !waits.iter().any(|(waiter, _)| waiter == pid);
    let roots: Vec<_> = blockers.into_iter().filter(is_root).map(root).collect();
    let waiters = waits.map(|(pid, blockers)| waiter((pid, pid, blockers)));
    WaitChain::follow(prioritized, waiters.into_iter().chain(roots))
}

#[test]
fn the_roots_are_found_through_sessions_that_only_queue() {
    // 1 waits behind 2 and 3; 2 waits for 3 and 4, and 3 for 4, which does not wait.
    let waits = [(1, vec![2, 3]), (2, vec![3, 4]), (3, vec![4]), (9, vec![8])];
    let chain = follow(1, waits);
    assert_eq!(chain.roots(), [4]);
    assert_eq!(chain.direct(), [2, 3]);
    assert_eq!(chain.path_to(4), [1, 2, 4]);
    assert_eq!(chain.blocked_by(8), None);
}

#[test]
fn a_cycle_has_no_roots_and_never_leads_to_the_prioritized_session() {
    let chain = follow(1, [(1, vec![2]), (2, vec![3]), (3, vec![1, 2])]);
    assert!(chain.roots().is_empty());
    assert_eq!(chain.direct(), [2]);
    assert_eq!(chain.blocked_by(1), None);
}

#[test]
fn a_session_without_blockers_has_an_empty_chain() {
    let chain = follow(1, [(2, vec![3])]);
    assert!(chain.roots().is_empty() && chain.direct().is_empty());
}

#[test]
fn a_worker_waits_for_its_leader() {
    let workers = [(7, 2, vec![]), (8, 2, vec![])].map(waiter);
    let sessions = [waiter((1, 1, vec![2])), waiter((2, 2, vec![3])), root(3)];
    let chain = WaitChain::follow(1, sessions.into_iter().chain(workers));
    assert_eq!(chain.roots(), [3]);
    assert_eq!(chain.path_to(3), [1, 2, 3]);
    let mut processes = chain.processes_of(&[2]);
    processes.sort_unstable();
    assert_eq!(processes, [2, 7, 8]);
    assert_eq!(chain.session_of(8), Some(2));
}

#[test]
fn a_block_has_the_waits_of_all_processes_of_the_prioritized_session() {
    let waits = [(8, 1, vec![]), (7, 1, vec![]), (2, 2, vec![3])];
    let leader = Process {
        awaited: None,
        ..waiter((1, 1, vec![2]))
    };
    let chain = WaitChain::follow(1, waits.map(waiter).into_iter().chain([leader, root(3)]));
    let block = chain.block_by(3);
    let processes: Vec<_> = block.waits.iter().map(|wait| wait.process).collect();
    assert_eq!(processes, [7, 8]);
    assert_eq!(block.blocker_transaction.as_deref(), Some("3/1"));
    assert_eq!(chain.roots(), [3]);
}

#[test]
fn a_blocker_whose_waits_were_not_read_is_no_root() {
    let chain = WaitChain::follow(1, [waiter((1, 1, vec![2]))]);
    assert!(chain.roots().is_empty());
    assert_eq!(chain.direct(), [2]);
}
