//! The graph itself: how it is loaded, and the questions that it answers.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use diesel::query_builder::Query;

use super::blocks::Blocks;
use super::edges::Edges;
use super::node::{WaitId, WaitNode};
use super::query::{Columns, NamelessGraphRows, WaitGraphRow, WaitGraphRows};
use crate::error::Result;
use crate::session::{Action, Driver, Session, Statement};
use crate::views::{LockedRelation, PgLock};

/// A snapshot of all waits for locks on the server, in all databases.
///
/// The nodes are the waiters and their blockers, which include prepared transactions.
/// `Display` draws a tree for a terminal. [`to_dot`](Self::to_dot) and
/// [`to_mermaid`](Self::to_mermaid) draw a diagram.
///
/// A row may have several lockers, by `FOR SHARE`, `FOR KEY SHARE` or foreign keys. A session that
/// waits for the row awaits their transactions one by one, and the server shows only that which it
/// awaits now. When this blocker ends, a later graph may have another one of the same row.
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
///     println!("{:?} blocks others: {:?}", root.pid, root.activity);
/// }
/// assert!(graph.is_empty());
/// assert_eq!(graph.to_string(), "no session waits for a lock\n");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct WaitGraph {
    #[cfg_attr(feature = "serde", serde(serialize_with = "values"))]
    pub(super) nodes: BTreeMap<WaitId, WaitNode>,
    /// The blocks of the nodes, once a question was about them.
    #[cfg_attr(feature = "serde", serde(skip))]
    blocks: OnceLock<Blocks>,
}

/// Loads a graph by a statement.
struct LoadWaitGraph<S>(S);

impl<S> Action for LoadWaitGraph<S>
where
    S: Statement<Row = WaitGraphRow> + Query<SqlType = Columns> + Copy,
{
    type Output = WaitGraph;

    async fn run(self, driver: &mut impl Driver) -> Result<WaitGraph> {
        let graph = read(self.0, driver).await?;
        if graph.cycles().is_empty() {
            return Ok(graph);
        }
        let mut second = read(self.0, driver).await?;
        second.keep_cycles_of(&graph);
        Ok(second)
    }
}

async fn read<S>(statement: S, driver: &mut impl Driver) -> Result<WaitGraph>
where
    S: Statement<Row = WaitGraphRow> + Query<SqlType = Columns>,
{
    driver.clear_stat_snapshot().await?;
    let rows = driver.load::<_, Columns, _>(statement).await?;
    Ok(WaitGraph::from_rows(rows))
}

impl WaitGraph {
    /// Reads all waits of the server in one statement.
    ///
    /// Within a transaction, a second statement makes the current sessions visible. The server
    /// copies its lock table, and locks it meanwhile. The waits, their blockers and the roots
    /// are those of this moment. If they contain a deadlock, all is read a second time: a
    /// cycle is returned only if the same waits continue.
    ///
    /// # Errors
    ///
    /// Fails if the statement fails, for example in an aborted transaction.
    ///
    /// # Cancel safety
    ///
    /// Only reads: a dropped future loses the result and changes nothing.
    pub fn load<C, Mode>(conn: &mut C) -> C::Output<'_, Self>
    where
        C: Session<Mode>,
    {
        conn.run_action(LoadWaitGraph(WaitGraphRows))
    }

    /// Reads the same without the names of relations and objects, and without the relations of
    /// waits for rows.
    ///
    /// The statement reads no catalog. It answers while a session locks one, as
    /// `VACUUM FULL pg_class` does, when [`load`](Self::load) would wait for that session. Locks
    /// have the `oid`s of their relations and databases; sessions have all their fields.
    ///
    /// # Errors
    ///
    /// Fails if the statement fails, for example in an aborted transaction.
    ///
    /// # Cancel safety
    ///
    /// Only reads: a dropped future loses the result and changes nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// # include!("../../tests/support/doctest.rs");
    /// use diesel_pglock::WaitGraph;
    ///
    /// # fn main() -> diesel_pglock::Result<()> {
    /// # let conn = &mut connection();
    /// assert!(WaitGraph::load_without_names(conn)?.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn load_without_names<C, Mode>(conn: &mut C) -> C::Output<'_, Self>
    where
        C: Session<Mode>,
    {
        conn.run_action(LoadWaitGraph(NamelessGraphRows))
    }

    pub(crate) fn from_rows(rows: Vec<WaitGraphRow>) -> Self {
        let Edges {
            sessions,
            blockers,
            is_node,
        } = Edges::of(&rows);
        let ids = sessions.ids.iter().zip(&is_node);
        let ids = ids
            .filter(|(_, is_node)| **is_node)
            .map(|(id, _)| id.clone());
        let mut nodes: BTreeMap<WaitId, WaitNode> =
            ids.map(|id| (id.clone(), WaitNode::new(id))).collect();
        for ((row, session), blockers) in rows.into_iter().zip(&sessions.of_rows).zip(blockers) {
            if let Some(node) = nodes.get_mut(&sessions.ids[*session]) {
                node.add(row, &sessions.ids, &blockers);
            }
        }
        let mut graph = Self::of_nodes(nodes);
        graph.name_blockers();
        graph
    }

    pub(super) fn of_nodes(nodes: BTreeMap<WaitId, WaitNode>) -> Self {
        let blocks = OnceLock::new();
        Self { nodes, blocks }
    }

    /// Returns the blocks by the positions of the nodes.
    pub(super) fn blocks(&self) -> &Blocks {
        self.blocks.get_or_init(|| Blocks::of(&self.nodes))
    }

    /// Returns the nodes, whose blocks may change.
    pub(super) fn nodes_mut(&mut self) -> impl Iterator<Item = &mut WaitNode> {
        self.blocks.take();
        self.nodes.values_mut()
    }

    /// Adds the names of prepared transactions to the blocks.
    fn name_blockers(&mut self) {
        let gids = self
            .nodes
            .values()
            .filter_map(|node| Some((node.id.clone(), node.gid.clone()?)));
        let gids: BTreeMap<WaitId, String> = gids.collect();
        if gids.is_empty() {
            return;
        }
        let waits = self.nodes_mut().filter_map(|node| node.wait.as_mut());
        for blocker in waits.flat_map(|wait| &mut wait.blockers) {
            blocker.gid = gids.get(&blocker.id).cloned();
        }
    }

    /// Adds the names of relations of other databases, which [`load`](Self::load) cannot read.
    ///
    /// `name` returns the relation of an awaited lock that has none yet.
    pub fn name_relations(&mut self, name: impl Fn(&PgLock) -> Option<LockedRelation>) {
        let nodes = self.nodes.values_mut();
        for wait in nodes.filter_map(|node| node.wait.as_mut()) {
            let lock = &mut wait.lock;
            lock.relation = lock.relation.take().or_else(|| name(lock));
        }
    }

    /// Returns true if no session waits.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Returns all waiters and blockers.
    pub fn nodes(&self) -> impl Iterator<Item = &WaitNode> {
        self.nodes.values()
    }

    /// Returns a session, if it is a waiter or a blocker.
    pub fn node(&self, pid: i32) -> Option<&WaitNode> {
        self.nodes.get(&WaitId::Session(pid))
    }

    /// Returns the roots: the blockers that do not wait themselves.
    pub fn roots(&self) -> impl Iterator<Item = &WaitNode> {
        self.nodes().filter(|node| node.wait.is_none())
    }

    /// Returns the waiters that a session blocks directly; 0 means the prepared transactions.
    pub fn waiters_of(&self, pid: i32) -> impl Iterator<Item = &WaitNode> {
        let blocks = self.blocks();
        let positions = blocks.positions(pid).into_iter();
        let mut waiters: Vec<usize> = positions
            .flat_map(|position| blocks.waiters(position).iter().copied())
            .collect();
        waiters.sort_unstable();
        waiters.dedup();
        self.at(&waiters).into_iter()
    }

    /// Returns the number of sessions between this one and its root, the root included.
    ///
    /// 0 for a root. `None` for a session that neither waits nor blocks, and for a session
    /// whose root is unknown: it waits for a cycle, or the server does not show its blocker.
    pub fn depth(&self, pid: i32) -> Option<usize> {
        let mut node = self.node(pid)?;
        // A path without a cycle is shorter than the number of nodes.
        for depth in 0..self.nodes.len() {
            match (&node.wait, node.parent()) {
                (None, _) => return Some(depth),
                (Some(_), parent) => node = self.nodes.get(parent?)?,
            }
        }
        None
    }
}

#[cfg(feature = "serde")]
fn values<S: serde::Serializer>(
    nodes: &BTreeMap<WaitId, WaitNode>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(nodes.values())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::LockMode;
    use crate::wait_graph::test_rows::{queue, row};

    #[test]
    fn a_queue_of_500_waits_for_its_holder() {
        let graph = queue(500);
        assert_eq!(graph.blocked_count(1), 500);
        assert_eq!(graph.depth(501), Some(1));
        assert_eq!(graph.node(501).unwrap().parent(), Some(&WaitId::Session(1)));
        assert_eq!(graph.cycles(), Vec::<Vec<i32>>::new());
        assert_eq!(graph.waiters_of(400).count(), 101);
    }

    #[test]
    fn a_blocker_without_a_row_does_not_appear() {
        let graph = WaitGraph::from_rows(vec![row(1, 1, LockMode::Share, &[9])]);
        assert_eq!(graph.nodes().count(), 1);
        assert_eq!(graph.roots().count(), 0);
        let wait = graph.node(1).unwrap().wait.as_ref().unwrap();
        assert_eq!(wait.blockers, []);
    }
}
