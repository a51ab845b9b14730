//! Who was in the way of a lock that was not acquired.

use std::fmt;

use diesel::expression::{Expression, ValidGrouping, is_aggregate};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::{Array, Bool, Nullable, Text};

use crate::advisory_statement::AdvisoryTarget;
use crate::fmt::format_duration;
use crate::driver::{ColumnsOf, Driver};
use crate::fmt::backquoted;
use crate::relation_oid::{BEFORE_NAME, BEHIND_NAME};
use crate::tables::pg_locks;
use crate::table_statement::TableTarget;
use crate::{BackendState, LockMode, PgActivity, PgLock, PgLockDsl, Result};

#[diesel::declare_sql_function]
extern "SQL" {
    /// The session that asks.
    #[sql_name = "pg_catalog.pg_backend_pid"]
    fn own_pid() -> Nullable<Integer>;
}

/// The locks in the way of an advisory lock, those that wait for it too last.
pub(crate) async fn to_advisory(
    driver: &mut impl Driver,
    target: &AdvisoryTarget,
) -> Result<Vec<PgLock>> {
    let locks = PgLock::query()
        .advisory(target.key)
        .filter(pg_locks::mode.eq_any(target.conflicts()))
        .filter(pg_locks::pid.is_distinct_from(own_pid()))
        .order_by(pg_locks::granted.desc());
    let locks = driver.load_aside::<_, ColumnsOf<PgLock>, PgLock>(locks);
    // That it was not acquired stays the news, also when nobody may tell why.
    Ok(locks.await?.unwrap_or_default())
}

/// The locks in the way of a table lock, those that wait for it too last.
pub(crate) async fn to_tables(
    driver: &mut impl Driver,
    target: TableTarget,
) -> Result<Vec<PgLock>> {
    let modes: Vec<LockMode> = target.conflicts();
    let locks = PgLock::query()
        .filter(IsOnAny {
            tables: target.tables,
            only: target.only,
        })
        .filter(pg_locks::mode.eq_any(modes))
        .filter(pg_locks::pid.is_distinct_from(own_pid()))
        .order_by(pg_locks::granted.desc());
    let locks = driver.load_aside::<_, ColumnsOf<PgLock>, PgLock>(locks);
    Ok(locks.await?.unwrap_or_default())
}

/// The locks that keep a table of this database from being read; none if they cannot be read.
#[cfg(feature = "migrations")]
pub(crate) async fn to_reading(driver: &mut impl Driver, table: u32) -> Vec<PgLock> {
    let locks = PgLock::query()
        .current_database()
        .filter(pg_locks::relation.eq(table))
        .filter(pg_locks::mode.eq(LockMode::AccessExclusive))
        .filter(pg_locks::pid.is_distinct_from(own_pid()))
        .order_by(pg_locks::granted.desc());
    let locks = driver.load_aside::<_, ColumnsOf<PgLock>, PgLock>(locks);
    locks.await.and_then(|locks| Ok(locks?)).unwrap_or_default()
}

/// Whether the lock is on one of the tables or, unless `only`, on one that inherits from them.
#[derive(Debug)]
struct IsOnAny {
    /// As SQL spells them.
    tables: Vec<String>,
    only: bool,
}

// What it renders depends on its value.
impl QueryId for IsOnAny {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Expression for IsOnAny {
    type SqlType = Nullable<Bool>;
}

impl<QS> AppearsOnTable<QS> for IsOnAny where pg_locks::pid: AppearsOnTable<QS> {}

impl ValidGrouping<()> for IsOnAny {
    type IsAggregate = is_aggregate::No;
}

// The array comes from a subquery, so that the tables are looked up once and not per lock.
impl QueryFragment<Pg> for IsOnAny {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "(\"pg_catalog\".\"pg_locks\".\"locktype\" = 'relation' AND \
             \"pg_catalog\".\"pg_locks\".\"database\" IN (0::pg_catalog.oid, \
             (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())) AND \
             \"pg_catalog\".\"pg_locks\".\"relation\" = ANY (ARRAY(\
             WITH RECURSIVE those(id) AS (SELECT ",
        );
        out.push_sql(BEFORE_NAME);
        out.push_sql("names.name");
        out.push_sql(BEHIND_NAME);
        out.push_sql(" FROM pg_catalog.unnest(");
        out.push_bind_param::<Array<Text>, _>(&self.tables)?;
        out.push_sql(") AS names(name)");
        if !self.only {
            out.push_sql(
                " UNION SELECT i.inhrelid FROM those JOIN pg_catalog.pg_inherits AS i ON i.inhparent = id",
            );
        }
        out.push_sql(") SELECT id FROM those)))");
        Ok(())
    }
}

/// How many sessions a message names.
const NAMED: usize = 3;

/// How much of a name or a query it shows, in characters.
const SHOWN: usize = 80;

/// The end of a message: the sessions in the way, each once.
pub(crate) struct HeldBy<'l>(pub(crate) &'l [PgLock]);

impl fmt::Display for HeldBy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sessions: Vec<&PgLock> = Vec::new();
        for lock in self.0 {
            let session = |it: &PgLock| (it.pid, it.virtual_transaction.clone());
            if !sessions.iter().any(|it| session(it) == session(lock)) {
                sessions.push(lock);
            }
        }
        for (i, lock) in sessions.iter().take(NAMED).enumerate() {
            f.write_str(if i == 0 { "; " } else { ", " })?;
            write_session(f, lock)?;
        }
        match sessions.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

fn write_session(f: &mut fmt::Formatter<'_>, lock: &PgLock) -> fmt::Result {
    f.write_str(if lock.granted {
        "held by "
    } else {
        "also wanted by "
    })?;
    let Some(pid) = lock.pid else {
        return f.write_str("a prepared transaction");
    };
    write!(f, "pid {pid}")?;
    let Some(activity) = &lock.activity else {
        return Ok(());
    };
    let details: Vec<String> = details(activity).collect();
    match details.is_empty() {
        true => Ok(()),
        false => write!(f, " ({})", details.join(", ")),
    }
}

/// What is known of a session; a restricted role knows little.
fn details(activity: &PgActivity) -> impl Iterator<Item = String> {
    let application = activity.application_name.as_deref().unwrap_or_default();
    let application =
        (!application.is_empty()).then(|| format!("application {}", quoted(application, SHOWN)));
    let user = activity.user.as_deref();
    let user = user.map(|user| format!("user {}", quoted(user, SHOWN)));
    let state = activity
        .state
        .as_ref()
        .map(|state| in_state(state, activity));
    let query = activity.query.as_deref().filter(|query| !query.is_empty());
    let running = activity.state == Some(BackendState::Active);
    let query = query.map(|query| {
        let which = if running { "query" } else { "last query" };
        format!("{which} {}", quoted(query, SHOWN))
    });
    [application, user, state, query].into_iter().flatten()
}

fn in_state(state: &BackendState, activity: &PgActivity) -> String {
    match activity.transaction_duration {
        Some(age) if *state == BackendState::Active => {
            format!("active in a transaction for {}", brief(age))
        }
        Some(age) => format!("{state} for {}", brief(age)),
        None => state.to_string(),
    }
}
