//! The cycles of waits through the prioritized session: deadlocks that the server has not ended.

use super::hard_edges::{HeldLock, ReadHardEdges};
use super::wait_chain::WaitChain;
use crate::error::Result;
use crate::session::Driver;
use crate::signal::Wait;

/// A cycle of waits.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cycle {
    /// The sessions, each of which waits for the next; the prioritized session is the first
    /// and the last one.
    pub(super) sessions: Vec<i32>,
    /// The waits of these sessions.
    waits: Vec<Wait>,
}

impl Cycle {
    /// Returns the blocker of the prioritized session.
    pub(super) fn blocker(&self) -> i32 {
        self.sessions[1]
    }

    /// Returns each session with the next one, for which it waits.
    fn edges(&self) -> impl Iterator<Item = (i32, i32)> + '_ {
        let pairs = self.sessions.iter().zip(&self.sessions[1..]);
        pairs.map(|(waiter, blocker)| (*waiter, *blocker))
    }
}

/// Reads the waits of the prioritized session, and the cycles that it is in.
///
/// A cycle counts if a second read shows the same waits. The server reads the blockers of one
/// process after another, so that one read can show waits that were never at the same time.
pub(super) async fn read_cycles(
    driver: &mut impl Driver,
    prioritized: i32,
) -> Result<(WaitChain, Vec<Cycle>)> {
    let chain = WaitChain::read(driver, prioritized).await?;
    let mut cycles = chain.cycles();
    if cycles.is_empty() {
        return Ok((chain, cycles));
    }
    let chain = WaitChain::read(driver, prioritized).await?;
    let confirmed = chain.cycles();
    cycles.retain(|cycle| confirmed.contains(cycle));
    retain_deadlocks(driver, &mut cycles).await?;
    Ok((chain, cycles))
}

/// Removes the cycles in which a session only queues before another one.
///
/// The server ends such a cycle without an error: after its `deadlock_timeout` it reorders the
/// queue.
async fn retain_deadlocks(driver: &mut impl Driver, cycles: &mut Vec<Cycle>) -> Result<()> {
    if cycles.is_empty() {
        return Ok(());
    }
    type Columns = <ReadHardEdges as diesel::query_builder::Query>::SqlType;
    let (waiters, blockers) = cycles.iter().flat_map(Cycle::edges).unzip();
    let held = driver.load::<_, Columns, HeldLock>(ReadHardEdges { waiters, blockers });
    let held = held.await?;
    let is_hard = |(waiter, blocker)| held.iter().any(|lock| lock.blocks(waiter, blocker));
    cycles.retain(|cycle| cycle.edges().all(is_hard));
    Ok(())
}

impl WaitChain {
    /// Returns a cycle for each direct blocker that closes one.
    ///
    /// A cycle through two direct blockers counts for the last one only: the end of that session
    /// ends the cycle, and the other one may merely queue.
    pub(super) fn cycles(&self) -> Vec<Cycle> {
        let direct = self.direct();
        let cycles = direct.iter().filter_map(|&pid| self.cycle(pid, &direct));
        cycles.collect()
    }

    fn cycle(&self, blocker: i32, direct: &[i32]) -> Option<Cycle> {
        let prioritized = self.prioritized();
        let before = self.shortest_paths(blocker, |pid| !direct.contains(&pid));
        let last = before.get(&prioritized)?;
        let back = |pid: &i32| before.get(pid).copied();
        let mut sessions: Vec<_> = std::iter::successors(Some(*last), back).collect();
        sessions.push(prioritized);
        sessions.reverse();
        sessions.push(prioritized);
        let waits = sessions[1..].iter().flat_map(|pid| self.waits_of(*pid));
        let waits = waits.collect();
        Some(Cycle { sessions, waits })
    }
}

#[cfg(test)]
mod tests {
    use super::super::wait_chain::tests::follow;

    fn cycles<const N: usize>(waits: [(i32, Vec<i32>); N]) -> Vec<Vec<i32>> {
        let cycles = follow(1, waits).cycles();
        cycles.into_iter().map(|cycle| cycle.sessions).collect()
    }

    #[test]
    fn a_cycle_leads_through_a_direct_blocker_back_to_the_prioritized_session() {
        assert_eq!(cycles([(1, vec![2]), (2, vec![1])]), [[1, 2, 1]]);
        let waits = [(1, vec![2]), (2, vec![3]), (3, vec![1])];
        assert_eq!(cycles(waits), [[1, 2, 3, 1]]);
    }

    #[test]
    fn a_cycle_without_the_prioritized_session_does_not_count() {
        assert!(cycles([(1, vec![2]), (2, vec![3]), (3, vec![2])]).is_empty());
        assert!(cycles([(1, vec![2])]).is_empty());
    }

    #[test]
    fn a_direct_blocker_that_waits_for_another_one_closes_no_cycle_of_its_own() {
        let waits = [(1, vec![2, 3]), (2, vec![3]), (3, vec![1])];
        assert_eq!(cycles(waits), [[1, 3, 1]]);
    }

    #[test]
    fn a_cycle_whose_waits_began_again_is_another_one() {
        let chain = || follow(1, [(1, vec![2]), (2, vec![1])]);
        assert_eq!(chain().cycles(), chain().cycles());
        let mut later = chain().cycles();
        later[0].waits[0].transaction.push('2');
        assert_ne!(chain().cycles(), later);
    }
}
