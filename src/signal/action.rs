//! The actions: signals to the sessions that a query finds.

use chrono::{DateTime, Utc};
use diesel::dsl::{Nullable, Select};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{Query, QueryFragment, QueryId};
use diesel::query_dsl::methods::SelectDsl;
use diesel::query_source::AliasedField;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::sql_types::{self, Bool, Integer, Timestamptz};

use super::statement::{CanSignal, Precondition, SendSignal};
use super::types::{Signal, SignalKind, SignalOutcome};
use crate::error::Result;
use crate::session::Action;
use crate::session::Driver;
use crate::tables::{BlockingActivity, blocking_activity, pg_locks, pg_stat_activity};

#[diesel::declare_sql_function]
extern "SQL" {
    /// The session that asks.
    #[sql_name = "pg_catalog.pg_backend_pid"]
    fn own_pid() -> Integer;
}

/// A session, since when it is that one, whom it keeps waiting, and the session that asks.
type Columns<Pid, Start, Waiter> = (Nullable<Pid>, Nullable<Start>, Nullable<Waiter>, own_pid);

/// What an action selects to learn whom to signal; the waiter means nothing.
pub type ActivityColumns =
    Columns<pg_stat_activity::pid, pg_stat_activity::backend_start, pg_stat_activity::pid>;

/// The same for the sessions in the way.
pub type BlockingColumns = Columns<
    AliasedField<BlockingActivity, pg_stat_activity::pid>,
    AliasedField<BlockingActivity, pg_stat_activity::backend_start>,
    pg_locks::pid,
>;

type ColumnTypes = (
    sql_types::Nullable<Integer>,
    sql_types::Nullable<Timestamptz>,
    sql_types::Nullable<Integer>,
    Integer,
);

/// A query of [`ActivityColumns`] or [`BlockingColumns`].
pub trait SessionQuery:
    Query<SqlType = ColumnTypes> + QueryFragment<Pg> + QueryId + Send + 'static
{
}

impl<Q> SessionQuery for Q where
    Q: Query<SqlType = ColumnTypes> + QueryFragment<Pg> + QueryId + Send + 'static
{
}

type Row = (Option<i32>, Option<DateTime<Utc>>, Option<i32>, i32);

/// Signals each session that the query finds, once.
pub struct SignalSessions<Q> {
    sessions: Q,
    kind: SignalKind,
    /// Whether a session must still stand in the way when its turn comes.
    in_the_way: bool,
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
        in_the_way: false,
    }
}

/// Signals the sessions in the way that the query finds.
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
        in_the_way: true,
    }
}

impl<Q: SessionQuery> Action for SignalSessions<Q> {
    type Output = Vec<Signal>;

    async fn run(self, driver: &mut impl Driver) -> Result<Vec<Signal>> {
        driver.clear_stat_snapshot().await?;
        let rows: Vec<Row> = driver.load::<_, ColumnTypes, _>(self.sessions).await?;
        let own = rows.first().map(|row| row.3);
        let mut signals = Vec::new();
        for signal in statements(rows, self.kind, self.in_the_way) {
            let is_own = own == Some(signal.pid);
            signals.push(send(driver, signal, is_own).await?);
        }
        Ok(signals)
    }
}

/// Folds the rows into a statement per session, that of the own session last:
/// it may not live to send another.
fn statements(rows: Vec<Row>, kind: SignalKind, in_the_way: bool) -> Vec<SendSignal> {
    let mut statements: Vec<SendSignal> = Vec::new();
    let own = rows.first().map(|row| row.3);
    for (pid, backend_start, waiter, _) in rows {
        // A prepared transaction has no session.
        let Some(pid) = pid else { continue };
        let waiter = waiter.filter(|_| in_the_way);
        match statements.iter_mut().find(|it| it.pid == pid) {
            Some(SendSignal {
                provided: Precondition::StillBlocks(waiters),
                ..
            }) => waiters.extend(waiter),
            Some(_) => {}
            None => statements.push(SendSignal {
                kind,
                pid,
                backend_start,
                provided: waiter.map_or(Precondition::None, |w| Precondition::StillBlocks(vec![w])),
            }),
        }
    }
    statements.sort_by_key(|it| own == Some(it.pid));
    statements
}

/// Sends one signal.
///
/// A refusal is an error in SQL; in a transaction a savepoint keeps it from
/// spoiling the rest.
pub async fn send(driver: &mut impl Driver, signal: SendSignal, is_own: bool) -> Result<Signal> {
    let (pid, kind) = (signal.pid, signal.kind);
    let outcome = match driver.load_in_savepoint::<_, Bool, bool>(signal).await? {
        Ok(rows) if rows.contains(&true) => SignalOutcome::Sent,
        Ok(_) => SignalOutcome::Gone,
        Err(error) if is_own => return Err(error.into()),
        Err(error) => denied(driver, pid, error).await?,
    };
    Ok(Signal { pid, kind, outcome })
}

/// Tells a refusal from other errors, which stay errors.
async fn denied(driver: &mut impl Driver, pid: i32, error: DieselError) -> Result<SignalOutcome> {
    let DieselError::DatabaseError(DatabaseErrorKind::Unknown, refusal) = &error else {
        return Err(error.into());
    };
    let allowed = driver.load::<_, Bool, bool>(CanSignal { pid }).await?;
    if allowed.contains(&true) {
        return Err(error.into());
    }
    Ok(SignalOutcome::Denied(refusal.message().to_owned()))
}
