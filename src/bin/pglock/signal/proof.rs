//! The proof that a signal helped: the session has gone, and its waiters go on.

use std::collections::{HashMap, HashSet};
use std::thread::sleep;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use diesel::PgConnection;
use diesel_pglock::{BackendState, LockType, PgActivity, SignalKind, WaitGraph, WaitNode};
use serde::Serialize;

use super::request::{Delivery, SignalResult};
use crate::connect::{LimitArgs, Waits};
use crate::failure::Failure;
use diesel_pglock::internal::{ManualEntry, ManualLog, activities_without_names};

/// The time between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// The effect of a signal on its session, and on the sessions behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proof {
    pub effect: Effect,
    /// The sessions behind it that no longer wait.
    pub went_on: usize,
    /// The sessions behind it that still wait.
    pub still_waiting: usize,
}

/// The effect of a signal on its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// The session has ended.
    Ended,
    /// Its query has ended.
    QueryEnded,
    /// It runs no query that a cancel could end.
    NoQuery,
    /// Nothing has changed within the limit.
    StillThere,
}

/// The server before the signals.
pub struct Before {
    graph: WaitGraph,
    /// The reason for which the signal log was not looked for.
    pub nameless: Option<String>,
    /// The signal log, if there is one.
    log: Option<ManualLog>,
    activities: HashMap<i32, PgActivity>,
    /// The waits behind each session.
    waits: HashMap<i32, HashSet<WaitKey>>,
}

/// The identity of a wait: process, transaction, start and lock, without names.
type WaitKey = (Option<i32>, String, Option<DateTime<Utc>>, String);

fn wait_key(node: &WaitNode) -> Option<WaitKey> {
    let lock = &node.wait.as_ref()?.lock;
    let (pid, transaction) = (lock.pid, lock.virtual_transaction.clone());
    // A row may have several lockers, whose transactions a session awaits one by one. It goes on
    // only after the last.
    if lock.lock_type == LockType::TransactionId {
        return Some((pid, transaction, None, lock.lock_type.to_string()));
    }
    let object = (lock.object_id, lock.object_subid, &lock.virtual_xid);
    let object = (lock.relation_oid, lock.class_id, object);
    let object = format!("{} {object:?}", lock.mode);
    Some((pid, transaction, lock.wait_start, object))
}

impl Before {
    pub fn load(conn: &mut PgConnection, pids: &[i32]) -> Result<Self, Failure> {
        let Waits { graph, nameless } = Waits::load(conn)?;
        let behind = |pid: &i32| {
            let nodes = graph.node(*pid).map(|node| graph.blocked_by(node));
            let waits = nodes.into_iter().flatten().filter_map(wait_key);
            (*pid, waits.collect())
        };
        Ok(Self {
            activities: activities(conn, pids)?,
            waits: pids.iter().map(behind).collect(),
            log: match nameless {
                None => ManualLog::find(conn)?,
                Some(_) => None,
            },
            graph,
            nameless,
        })
    }

    /// Reads what the signal log records about a session; `None` without a log.
    pub fn entry(
        &self,
        conn: &mut PgConnection,
        pid: i32,
        timeout: LimitArgs,
    ) -> Result<Option<ManualEntry>, Failure> {
        let Some(log) = self.log.as_ref().filter(|log| log.is_writable()) else {
            return Ok(None);
        };
        let activity = self.activities.get(&pid).cloned();
        let waited = |node: &&WaitNode| node.wait.as_ref().and_then(|it| it.lock.wait_duration);
        let waiter = self.graph.waiters_of(pid).max_by_key(waited);
        let entry = timeout.within(conn, |conn| Ok(log.read(conn, pid, activity, waiter)?));
        entry.map(Some)
    }

    /// Adds proofs to the results, once all have succeeded or the limit is over.
    pub fn prove(
        &self,
        conn: &mut PgConnection,
        results: &mut [SignalResult],
        timeout: LimitArgs,
        limit: Duration,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + limit;
        // A session that waits for several lockers of a row waits for none between two of them.
        let mut is_confirmed = false;
        loop {
            let is_proven = timeout.within(conn, |conn| self.look(conn, results))?;
            if is_proven && is_confirmed || Instant::now() >= deadline {
                return Ok(());
            }
            is_confirmed = is_proven;
            sleep(PAUSE);
        }
    }

    /// Returns true if every signal has had its effect.
    fn look(&self, conn: &mut PgConnection, results: &mut [SignalResult]) -> Result<bool, Failure> {
        let sent = results.iter_mut().filter(|it| it.outcome == Delivery::Sent);
        let sent: Vec<&mut SignalResult> = sent.collect();
        if sent.is_empty() {
            return Ok(true);
        }
        let pids: Vec<i32> = sent.iter().map(|it| it.pid).collect();
        let after = activities(conn, &pids)?;
        let graph = WaitGraph::load_without_names(conn)?;
        let waits: HashSet<WaitKey> = graph.nodes().filter_map(wait_key).collect();
        let mut is_proven = true;
        for result in sent {
            let proof = self.proof(result, &after, &waits);
            is_proven &= proof.is_complete();
            result.proof = Some(proof);
        }
        Ok(is_proven)
    }

    fn proof(
        &self,
        result: &SignalResult,
        after: &HashMap<i32, PgActivity>,
        waits: &HashSet<WaitKey>,
    ) -> Proof {
        let before = self.activities.get(&result.pid);
        let after = after.get(&result.pid);
        let behind = self.waits.get(&result.pid);
        let still_waiting = behind.map_or(0, |behind| behind.intersection(waits).count());
        Proof {
            effect: effect(result.kind, before, after),
            went_on: behind.map_or(0, HashSet::len) - still_waiting,
            still_waiting,
        }
    }
}

impl Proof {
    fn is_complete(&self) -> bool {
        match self.effect {
            Effect::Ended | Effect::QueryEnded => self.still_waiting == 0,
            Effect::NoQuery => true,
            Effect::StillThere => false,
        }
    }

    pub fn is_success(&self) -> bool {
        matches!(self.effect, Effect::Ended | Effect::QueryEnded)
    }
}

fn effect(kind: SignalKind, before: Option<&PgActivity>, after: Option<&PgActivity>) -> Effect {
    let is_same =
        |(before, after): (&PgActivity, &PgActivity)| before.backend_start == after.backend_start;
    let Some((before, after)) = before.zip(after).filter(|pair| is_same(*pair)) else {
        return Effect::Ended;
    };
    let is_active = |it: &PgActivity| it.state == Some(BackendState::Active);
    match kind {
        SignalKind::Terminate => Effect::StillThere,
        SignalKind::Cancel if before.is_hidden() => Effect::StillThere,
        SignalKind::Cancel if !is_active(before) => Effect::NoQuery,
        SignalKind::Cancel if is_active(after) && before.query_start == after.query_start => {
            Effect::StillThere
        }
        SignalKind::Cancel => Effect::QueryEnded,
    }
}

fn activities(conn: &mut PgConnection, pids: &[i32]) -> Result<HashMap<i32, PgActivity>, Failure> {
    let found = activities_without_names(conn, pids)?;
    Ok(found.into_iter().map(|it| (it.pid, it)).collect())
}
