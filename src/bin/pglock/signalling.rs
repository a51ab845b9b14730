//! Signals to the sessions that a list shows.

use chrono::{DateTime, Utc};
use diesel::PgConnection;
use diesel::prelude::*;
use diesel_pglock::prelude::*;
use diesel_pglock::schema::{blocking_activity, pg_stat_activity};
use diesel_pglock::{BackendState, BlockedPgLock, PgActivity, Signal, SignalKind, SignalOutcome};

use crate::failure::Failure;
use crate::field::Row;
use crate::terminal_text::{clean, cut};
use diesel_pglock::internal::format_duration;

/// A session that is to be signalled.
#[derive(Clone, Debug)]
pub struct Victim {
    pub pid: i32,
    activity: Option<Box<PgActivity>>,
    /// Whom it is in the way of; with `--blocking` alone it has to be, still.
    waiters: Option<Vec<i32>>,
}

/// The sessions of the rows, each once: with `--blocking` those in the way.
///
/// A prepared transaction has no session.
pub fn victims(rows: &[Row]) -> Vec<Victim> {
    let mut victims: Vec<Victim> = Vec::new();
    for row in rows {
        let (pid, activity, waiter) = match &row.blocking {
            Some(it) => (
                Some(it.pid).filter(|pid| *pid != 0),
                &it.activity,
                row.lock.pid,
            ),
            None => (row.lock.pid, &row.lock.activity, None),
        };
        let Some(pid) = pid else { continue };
        match victims.iter_mut().find(|it| it.pid == pid) {
            Some(victim) => {
                if let Some(waiters) = &mut victim.waiters {
                    waiters.extend(waiter);
                }
            }
            None => victims.push(Victim {
                pid,
                activity: activity.clone().map(Box::new),
                waiters: waiter.map(|waiter| vec![waiter]),
            }),
        }
    }
    victims
}

impl Victim {
    /// A session, whomever it is in the way of.
    pub fn of(pid: i32, activity: Option<PgActivity>) -> Self {
        let (activity, waiters) = (activity.map(Box::new), None);
        Self {
            pid,
            activity,
            waiters,
        }
    }

    fn backend_start(&self) -> Option<DateTime<Utc>> {
        self.activity.as_ref()?.backend_start
    }

    /// Whether it is the same session, and not another of the same number.
    pub fn is(&self, other: &Self) -> bool {
        self.pid == other.pid && self.backend_start() == other.backend_start()
    }

    /// Who it is, on one line.
    pub fn describe(&self, kind: SignalKind) -> String {
        let mut text = self.pid.to_string();
        let Some(activity) = &self.activity else {
            return text;
        };
        let named = [
            &activity.application_name,
            &activity.user,
            &activity.database,
        ];
        for name in named.into_iter().flatten() {
            text += &format!("  {}", cut(&clean(name), 30));
        }
        if let Some(kind) = activity
            .backend_type
            .as_deref()
            .filter(|it| *it != "client backend")
        {
            text += &format!("  {}", clean(kind));
        }
        if let Some(state) = &activity.state {
            text += &format!("  {}", clean(state.as_str()));
        }
        if let Some(open) = activity.transaction_duration {
            text += &format!(", transaction open {}", format_duration(open));
        }
        let is_idle = activity
            .state
            .as_ref()
            .is_some_and(BackendState::is_idle_in_transaction);
        if is_idle && kind == SignalKind::Cancel {
            text += ", where cancelling changes nothing";
        }
        match activity.query.as_deref().map(clean) {
            Some(query) if !query.is_empty() => text + ": " + &cut(&query, 60),
            _ => text,
        }
    }

    /// Signals it, if it is the same session, and still in the way.
    pub fn signal(
        &self,
        conn: &mut PgConnection,
        kind: SignalKind,
    ) -> Result<SignalOutcome, Failure> {
        let start = self.backend_start();
        let signals: Vec<Signal> = match &self.waiters {
            None => {
                let query = PgActivity::query()
                    .filter(pg_stat_activity::pid.eq(self.pid))
                    .filter(pg_stat_activity::backend_start.is_not_distinct_from(start));
                match kind {
                    SignalKind::Cancel => query.cancel_activity(conn)?,
                    SignalKind::Terminate => query.terminate_activity(conn)?,
                }
            }
            Some(waiters) => {
                let started = blocking_activity.field(pg_stat_activity::backend_start);
                let query = BlockedPgLock::query()
                    .pids(waiters.iter().copied())
                    .blocked_by(self.pid)
                    .filter(started.is_not_distinct_from(start));
                match kind {
                    SignalKind::Cancel => query.cancel_blocking_activity(conn)?,
                    SignalKind::Terminate => query.terminate_blocking_activity(conn)?,
                }
            }
        };
        let outcome = signals.into_iter().next().map(|signal| signal.outcome);
        Ok(outcome.unwrap_or(SignalOutcome::Gone))
    }
}
