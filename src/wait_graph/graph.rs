use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::edges::{blockers, by_thing};
use super::node::WaitId;
use super::node::{WaitBlocker, WaitNode};
use super::query::{Columns, ContestedLock, ContestedLocks};
use crate::error::Result;
use crate::session::Driver;
use crate::session::{Action, Session};

/// Who waits for whom, at one moment.
///
/// The sessions that wait, those in their way, and the prepared transactions among
/// these. `Display` draws a tree for a terminal, [`to_dot`](Self::to_dot) and
/// [`to_mermaid`](Self::to_mermaid) a diagram.
///
/// # Examples
///
/// ```
/// # include!("../../tests/support/doctest.rs");
/// use diesel_pglock::WaitGraph;
///
/// # fn main() -> diesel_pglock::Result<()> {
/// # let conn = &mut connection();
/// let graph = WaitGraph::load(conn)?;
/// for root in graph.roots() {
///     println!("{:?} holds up {:?}", root.pid, root.activity);
/// }
/// assert!(graph.is_empty());
/// assert_eq!(graph.to_string(), "nobody waits for a lock\n");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct WaitGraph {
    #[cfg_attr(feature = "serde", serde(serialize_with = "values"))]
    nodes: BTreeMap<WaitId, WaitNode>,
}

struct LoadWaitGraph;

impl Action for LoadWaitGraph {
    type Output = WaitGraph;

    async fn run(self, driver: &mut impl Driver) -> Result<WaitGraph> {
        driver.clear_stat_snapshot().await?;
        let rows = driver.load::<_, Columns, _>(ContestedLocks).await?;
        Ok(WaitGraph::from_rows(rows))
    }
}

impl WaitGraph {
    /// Reads who waits for whom, in one statement.
    ///
    /// In a transaction it takes a second one, to see the sessions as they are now.
    pub fn load<C, Mode>(conn: &mut C) -> C::Output<'_, Self>
    where
        C: Session<Mode>,
    {
        conn.run_action(LoadWaitGraph)
    }

    pub(crate) fn from_rows(rows: Vec<ContestedLock>) -> Self {
        let mut nodes = BTreeMap::new();
        let things = by_thing(&rows);
        let edges: Vec<Vec<WaitBlocker>> = rows.iter().map(|row| blockers(row, &things)).collect();
        let waited_for: BTreeSet<WaitId> = edges.iter().flatten().map(|it| it.id.clone()).collect();
        for blocker in edges.iter().flatten() {
            // One that has gone since has no row and is known by its pid alone.
            let node = || WaitNode::new(blocker.id.clone());
            nodes.entry(blocker.id.clone()).or_insert_with(node);
        }
        for (row, blockers) in rows.into_iter().zip(edges) {
            let id = WaitId::of(&row.lock);
            if row.lock.granted && !waited_for.contains(&id) {
                continue;
            }
            let node = nodes.entry(id.clone()).or_insert_with(|| WaitNode::new(id));
            node.add(row, blockers);
        }
        Self { nodes }
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// All who wait or are waited for.
    pub fn nodes(&self) -> impl Iterator<Item = &WaitNode> {
        self.nodes.values()
    }

    /// The session, if it waits or is waited for.
    pub fn node(&self, pid: i32) -> Option<&WaitNode> {
        self.nodes.get(&WaitId::Session(pid))
    }

    /// Those who hold others up and do not wait themselves: where every jam begins.
    pub fn roots(&self) -> impl Iterator<Item = &WaitNode> {
        self.nodes().filter(|node| node.wait.is_none())
    }

    /// The sessions that a session is directly in the way of; 0 for the prepared transactions.
    pub fn waiters_of(&self, pid: i32) -> impl Iterator<Item = &WaitNode> {
        let pid = Some(pid).filter(|pid| *pid != 0);
        self.nodes()
            .filter(move |node| node.blockers().iter().any(|it| it.pid == pid))
    }

    /// How many sessions are in line before this one up to the root; 0 for a root.
    ///
    /// `None` for a session that neither waits nor is waited for, and in a cycle,
    /// which has no root.
    pub fn depth(&self, pid: i32) -> Option<usize> {
        let mut node = self.node(pid)?;
        // No line is longer than there are nodes, but a cycle is.
        for depth in 0..self.nodes.len() {
            match node.parent() {
                None => return Some(depth),
                Some(parent) => node = self.nodes.get(parent)?,
            }
        }
        None
    }

    /// How many sessions wait for this one, directly or for one that does; 0 for the prepared transactions.
    pub fn blocked_count(&self, pid: i32) -> usize {
        let mut waiters = BTreeMap::<Option<i32>, Vec<i32>>::new();
        for node in self.nodes() {
            for blocker in node.blockers() {
                waiters.entry(blocker.pid).or_default().extend(node.pid);
            }
        }
        let mut blocked = BTreeSet::new();
        let mut next = VecDeque::from([Some(pid).filter(|pid| *pid != 0)]);
        while let Some(pid) = next.pop_front() {
            for waiter in waiters.get(&pid).into_iter().flatten() {
                if blocked.insert(*waiter) {
                    next.push_back(Some(*waiter));
                }
            }
        }
        blocked.remove(&pid);
        blocked.len()
    }

    /// The deadlocks: sessions each of which waits for the next, and the last for the first.
    ///
    /// PostgreSQL ends one of them after `deadlock_timeout`. Of deadlocks that share
    /// a session one is shown.
    pub fn cycles(&self) -> Vec<Vec<i32>> {
        let mut cycles = Vec::new();
        let mut left = self.without_way_out();
        while let Some(start) = left.first().copied() {
            let mut path = vec![start];
            loop {
                let last = &path[path.len() - 1];
                let next = self.nodes[*last]
                    .blockers()
                    .iter()
                    .find(|it| left.contains(&it.id));
                let Some(next) = next else { break };
                if let Some(i) = path.iter().position(|id| **id == next.id) {
                    cycles.push(path[i..].iter().filter_map(|id| id.pid()).collect());
                    break;
                }
                path.push(&next.id);
            }
            left.retain(|id| !path.contains(id));
        }
        cycles
    }

    /// Those whose wait no root can end: in a cycle, or behind one.
    fn without_way_out(&self) -> BTreeSet<&WaitId> {
        let mut ways: BTreeMap<&WaitId, usize> = BTreeMap::new();
        let mut waiters: BTreeMap<&WaitId, Vec<&WaitId>> = BTreeMap::new();
        for node in self.nodes() {
            ways.insert(&node.id, node.blockers().len());
            for blocker in node.blockers() {
                waiters.entry(&blocker.id).or_default().push(&node.id);
            }
        }
        let mut free: Vec<&WaitId> = self.roots().map(|root| &root.id).collect();
        while let Some(id) = free.pop() {
            ways.remove(id);
            for waiter in waiters.get(id).into_iter().flatten() {
                let blockers_left = ways.get_mut(waiter).map(|left| {
                    *left -= 1;
                    *left
                });
                if blockers_left == Some(0) {
                    free.push(waiter);
                }
            }
        }
        ways.into_keys().collect()
    }
}

#[cfg(feature = "serde")]
fn values<S: serde::Serializer>(
    nodes: &BTreeMap<WaitId, WaitNode>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(nodes.values())
}

/// Rows without a server: sessions `1..` that hold and await the advisory lock of a key.
#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::types::{AdvisoryKey, LockMode, LockType};
    use crate::views::PgLock;
    use crate::wait_graph::node::BlockKind;

    /// A lock on the key `on`, awaited if somebody is in its way.
    pub(crate) fn row(pid: i32, on: i64, mode: LockMode, in_the_way: &[i32]) -> ContestedLock {
        let key = AdvisoryKey::new(on);
        let lock = PgLock {
            pid: Some(pid),
            lock_type: LockType::Advisory,
            mode,
            granted: in_the_way.is_empty(),
            fast_path: false,
            wait_start: None,
            wait_duration: None,
            database: Some("app".into()),
            relation: None,
            relation_oid: None,
            advisory_key: Some(key),
            page: None,
            tuple: None,
            virtual_xid: None,
            transaction_id: None,
            class_id: Some(key.classid()),
            object_id: Some(key.objid()),
            object_subid: Some(key.objsubid()),
            virtual_transaction: format!("{pid}/1"),
            activity: None,
        };
        let blocking_pids = Some(in_the_way.to_vec()).filter(|pids| !pids.is_empty());
        ContestedLock {
            lock,
            blocking_pids,
            gid: None,
        }
    }

    /// Session 1 holds the lock, the others queue for it, each behind all before it.
    pub(crate) fn queue(length: i32) -> WaitGraph {
        let holder = row(1, 7, LockMode::Exclusive, &[]);
        let waiters = (2..=length + 1).map(|pid| {
            let before: Vec<i32> = (1..pid).collect();
            row(pid, 7, LockMode::Exclusive, &before)
        });
        WaitGraph::from_rows([holder].into_iter().chain(waiters).collect())
    }

    #[test]
    fn a_queue_of_500_hangs_on_its_holder() {
        let graph = queue(500);
        assert_eq!(graph.blocked_count(1), 500);
        assert_eq!(graph.depth(501), Some(1));
        assert_eq!(graph.node(501).unwrap().parent(), Some(&WaitId::Session(1)));
        assert_eq!(graph.cycles(), Vec::<Vec<i32>>::new());
        assert_eq!(graph.waiters_of(400).count(), 101);
    }

    #[test]
    fn a_session_that_waits_for_itself_through_another_is_a_cycle_once() {
        let exclusive = || LockMode::Exclusive;
        let graph = WaitGraph::from_rows(vec![
            row(1, 1, exclusive(), &[]),
            row(2, 2, exclusive(), &[]),
            row(1, 2, exclusive(), &[2]),
            row(2, 1, exclusive(), &[1]),
            row(3, 1, exclusive(), &[1, 2]),
        ]);
        assert_eq!(graph.cycles(), [[1, 2]]);
        assert_eq!(graph.depth(3), None);
        assert_eq!(graph.blocked_count(1), 2);
        assert_eq!(graph.roots().count(), 0);
    }

    #[test]
    fn one_in_the_way_of_whom_nothing_else_is_known_is_a_root() {
        let graph = WaitGraph::from_rows(vec![row(1, 1, LockMode::Share, &[9])]);
        let roots: Vec<_> = graph.roots().map(|root| root.pid).collect();
        assert_eq!(roots, [Some(9)]);
        let wait = graph.node(1).unwrap().wait.as_ref().unwrap();
        assert_eq!(wait.blockers[0].kind, BlockKind::Hard);
    }
}
