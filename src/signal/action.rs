//! The actions: signals to the sessions that a query finds.

use diesel::dsl::Select;
use diesel::prelude::*;
use diesel::query_dsl::methods::SelectDsl;

use super::precondition::Precondition;
use super::send::send;
use super::session_query::{
    ActivityColumns, BlockingColumns, ColumnTypes, SessionQuery, SessionRow, own_pid,
};
use super::statement::SendSignal;
use super::types::{Signal, SignalKind};
use crate::error::Result;
use crate::session::{Action, Driver};
use crate::tables::{blocking_activity, pg_locks, pg_stat_activity};

/// An action that signals each session of a query once.
pub struct SignalSessions<Q> {
    sessions: Q,
    kind: SignalKind,
    reason: Reason,
}

/// The reason for which a query selects its sessions.
#[derive(Clone, Copy)]
enum Reason {
    /// It is the one that is meant, with its lock or its activity.
    Selected,
    /// It blocks, and must still do so when it is signalled.
    Blocks,
}

/// Signals the sessions whose locks or activity the query finds.
pub fn to_activity<Q>(query: Q, kind: SignalKind) -> SignalSessions<Select<Q, ActivityColumns>>
where
    Q: SelectDsl<ActivityColumns>,
{
    let columns = (
        pg_stat_activity::pid.nullable(),
        pg_stat_activity::backend_start.nullable(),
        pg_stat_activity::pid.nullable(),
        own_pid(),
    );
    SignalSessions {
        sessions: query.select(columns),
        kind,
        reason: Reason::Selected,
    }
}

/// Signals the blockers that the query finds.
pub fn to_blocking<Q>(query: Q, kind: SignalKind) -> SignalSessions<Select<Q, BlockingColumns>>
where
    Q: SelectDsl<BlockingColumns>,
{
    let pid = blocking_activity.field(pg_stat_activity::pid);
    let backend_start = blocking_activity.field(pg_stat_activity::backend_start);
    let columns = (
        pid.nullable(),
        backend_start.nullable(),
        pg_locks::pid.nullable(),
        own_pid(),
    );
    SignalSessions {
        sessions: query.select(columns),
        kind,
        reason: Reason::Blocks,
    }
}

impl<Q: SessionQuery> Action for SignalSessions<Q> {
    type Output = Vec<Signal>;

    async fn run(self, driver: &mut impl Driver) -> Result<Vec<Signal>> {
        driver.clear_stat_snapshot().await?;
        let rows: Vec<SessionRow> = driver.load::<_, ColumnTypes, _>(self.sessions).await?;
        let own = rows.first().map(|row| row.own_pid);
        let mut signals = Vec::new();
        for signal in statements(rows, self.kind, self.reason) {
            let is_own = own == Some(signal.pid);
            signals.push(send(driver, signal, is_own).await?);
        }
        Ok(signals)
    }
}

/// Folds the rows into one statement per session.
///
/// The statement for the own session is the last: the session may end before it sends
/// another.
fn statements(rows: Vec<SessionRow>, kind: SignalKind, reason: Reason) -> Vec<SendSignal> {
    let mut statements: Vec<SendSignal> = Vec::new();
    let own = rows.first().map(|row| row.own_pid);
    for row in rows {
        // A prepared transaction has no session.
        let Some(pid) = row.pid else { continue };
        let waiter = row.waiter.filter(|_| matches!(reason, Reason::Blocks));
        match statements.iter_mut().find(|it| it.pid == pid) {
            Some(known) => known.precondition.add_waiter(waiter),
            None => statements.push(SendSignal {
                kind,
                pid,
                backend_start: row.backend_start,
                precondition: Precondition::blocks(waiter),
                expiry: None,
                is_observed: false,
            }),
        }
    }
    statements.sort_by_key(|it| own == Some(it.pid));
    statements
}
