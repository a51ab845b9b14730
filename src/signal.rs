use std::fmt;

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{Array, Bool, Integer, Nullable, Timestamptz};

use crate::block::Block;
use crate::mark::walk_unmarked;
use crate::statement::query;
use crate::watch_statement::{HAS_SYNCHRONOUS_STANDBY, Us};

/// A signal to a session, and what came of it.
///
/// See [Server Signaling Functions][pg].
///
/// [pg]: https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADMIN-SIGNAL
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Signal {
    /// The session.
    pub pid: i32,
    /// What it was asked to do.
    pub kind: SignalKind,
    /// Whether it was asked.
    pub outcome: SignalOutcome,
}

/// What a session is asked to do.
// Exhaustive: PostgreSQL has these two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum SignalKind {
    /// To stop its query: `pg_cancel_backend`.
    ///
    /// A session that is [idle in transaction](crate::BackendState::IdleInTransaction)
    /// has none: it is sent the signal, changes nothing and keeps its locks.
    #[doc(alias = "pg_cancel_backend")]
    Cancel,
    /// To end: `pg_terminate_backend`.
    #[doc(alias = "pg_terminate_backend")]
    Terminate,
}

/// Whether a session was sent a signal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum SignalOutcome {
    /// It was sent, which a session may take its time to heed.
    Sent,
    /// It was not: the session has ended, or no longer stands in the way.
    Gone,
    /// It was not: this role may not signal that session. The server's own words.
    ///
    /// A role may signal the sessions of roles it is a member of; a member of
    /// `pg_signal_backend` those of all but superusers.
    Denied(String),
}

impl SignalKind {
    const fn function(self) -> &'static str {
        match self {
            Self::Cancel => "pg_catalog.pg_cancel_backend",
            Self::Terminate => "pg_catalog.pg_terminate_backend",
        }
    }
}

impl fmt::Display for SignalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Cancel => "cancel",
            Self::Terminate => "terminate",
        })
    }
}

impl fmt::Display for SignalOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent => f.pad("sent"),
            Self::Gone => f.pad("gone"),
            Self::Denied(message) => write!(f, "denied: {message}"),
        }
    }
}

/// The statement that sends one signal: a row with `true` when it did.
///
/// It looks the session up and signals it in one, so that a successor with the
/// same pid is never hit. One statement per session: the first that this role
/// may not signal would end a longer one.
#[derive(Clone, Debug)]
pub struct SendSignal {
    pub kind: SignalKind,
    pub pid: i32,
    /// As `pg_stat_activity` shows it to this role, which may be not at all.
    pub backend_start: Option<DateTime<Utc>>,
    /// What must still be so for the signal to be sent.
    pub provided: Provided,
}

/// What is looked at again in the statement that signals.
#[derive(Clone, Debug)]
pub enum Provided {
    /// Nothing but that the session is the same.
    Always,
    /// It stands in the way of one of these sessions.
    Blocks(Vec<i32>),
    /// The session that is let through is there, each of these sessions stands in the way
    /// of the other beside it, the first of the two, in the same block; and it is not the
    /// session that sends the signal.
    Leads {
        us: Us,
        waiters: Vec<i32>,
        blockers: Vec<i32>,
        block: Block,
    },
}

impl QueryFragment<Pg> for SendSignal {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT ");
        out.push_sql(self.kind.function());
        out.push_sql("(pid) FROM pg_catalog.pg_stat_activity WHERE pid = ");
        out.push_bind_param::<Integer, _>(&self.pid)?;
        out.push_sql(" AND backend_start IS NOT DISTINCT FROM ");
        out.push_bind_param::<Nullable<Timestamptz>, _>(&self.backend_start)?;
        match &self.provided {
            Provided::Always => {}
            Provided::Blocks(waiters) => {
                out.push_sql(" AND EXISTS (SELECT FROM pg_catalog.unnest(");
                out.push_bind_param::<Array<Integer>, _>(waiters)?;
                out.push_sql(") AS waiter WHERE pid = ANY (pg_catalog.pg_blocking_pids(waiter)))");
            }
            Provided::Leads {
                us,
                waiters,
                blockers,
                block,
            } => {
                out.push_sql(" AND ");
                us.walk_ast(out.reborrow())?;
                // A role that may not look sees no `backend_type`; these two it sees.
                out.push_sql(" AND (backend_type IS NOT NULL OR usesysid IS NOT NULL)");
                out.push_sql(
                    " AND pid NOT IN (SELECT r.pid FROM pg_catalog.pg_stat_replication AS r)",
                );
                // A commit that waits for its standby is done, and its client would not learn of it.
                out.push_sql(" AND CASE WHEN backend_type IS NULL THEN NOT (");
                out.push_sql(HAS_SYNCHRONOUS_STANDBY);
                out.push_sql(") ELSE wait_event IS DISTINCT FROM 'SyncRep' END");
                out.push_sql(" AND ");
                walk_unmarked(&self.pid, out.reborrow())?;
                out.push_sql(" AND pid <> pg_catalog.pg_backend_pid() AND CASE WHEN (SELECT ");
                out.push_sql(
                    "pg_catalog.bool_and(blocker = ANY (pg_catalog.pg_blocking_pids(waiter))) ",
                );
                // Of two arrays, `unnest` is syntax and takes no schema.
                out.push_sql("FROM unnest(");
                out.push_bind_param::<Array<Integer>, _>(waiters)?;
                out.push_sql(", ");
                out.push_bind_param::<Array<Integer>, _>(blockers)?;
                // CASE keeps the order: a block that goes on after the way was looked at was the
                // same one then.
                out.push_sql(") AS way(waiter, blocker)) THEN ");
                block.walk_still(&self.pid, out.reborrow())?;
                out.push_sql(" ELSE false END");
            }
        }
        Ok(())
    }
}

query!(SendSignal => Bool, bool);

/// Asks whether this role may signal a session; no row when it is gone.
///
/// Diesel does not show the code of an error, and its text is in the server's
/// language: this tells "you may not" from a cancelled or timed-out statement.
#[derive(Clone, Debug)]
pub struct MaySignal {
    pub pid: i32,
}

impl QueryFragment<Pg> for MaySignal {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "SELECT me.rolsuper OR (them.rolsuper IS FALSE \
             AND (pg_catalog.pg_has_role(them.oid, 'USAGE') \
             OR pg_catalog.pg_has_role('pg_signal_backend', 'USAGE'))) \
             FROM pg_catalog.pg_stat_activity AS session \
             JOIN pg_catalog.pg_roles AS me ON me.rolname = CURRENT_USER \
             LEFT JOIN pg_catalog.pg_roles AS them ON them.oid = session.usesysid \
             WHERE session.pid = ",
        );
        out.push_bind_param::<Integer, _>(&self.pid)
    }
}

query!(MaySignal => Bool, bool);

#[cfg(all(test, feature = "postgres"))]
mod tests {
    use chrono::TimeDelta;
    use diesel::{Connection, PgConnection, RunQueryDsl};
    use pglock_sandbox::Sandbox;

    use super::*;
    use crate::driver::Driver;
    use crate::driver::Driver;
    use crate::mark::Unmark;
    use crate::sync_driver::{SyncDriver, ready};
    use crate::sync_driver::{SyncDriver, ready};
    use crate::wait_chain::WaitChain;
    use crate::watch_statement::{BlockingPids, CheckWatcher, Identify, Process, Processes};
    use crate::watch_statement::{BlockingPids, Identify};

    /// What came of a signal to the session of `pid`, if it began at `backend_start`.
    fn send(
        conn: &mut PgConnection,
        (pid, backend_start): (i32, Option<DateTime<Utc>>),
        provided: Provided,
    ) -> Vec<bool> {
        let signal = SendSignal {
            kind: SignalKind::Terminate,
            pid,
            backend_start,
            provided,
        };
        ready(SyncDriver(conn).load::<_, Bool, bool>(signal)).unwrap()
    }

    #[test]
    fn a_pid_that_was_given_to_another_session_is_not_signalled() {
        let server = Sandbox::start().unwrap();
        let connect = || PgConnection::establish(&server.url()).unwrap();
        let (mut conn, mut other) = (connect(), connect());
        let (pid, began) = ready(SyncDriver(&mut other).ask(Identify)).unwrap();
        let predecessor = (pid, began.map(|began| began - TimeDelta::microseconds(1)));
        assert!(send(&mut conn, predecessor, Provided::Always).is_empty());
        let us = Us {
            pid,
            backend_start: began,
        };
        let way = Provided::Leads {
            us,
            waiters: vec![1],
            blockers: vec![pid],
            block: block_by(&mut conn, pid, 1),
        };
        assert!(
            send(&mut conn, (pid, began), way).is_empty(),
            "not in the way"
        );
        diesel::sql_query("SELECT 1").execute(&mut other).unwrap();
        assert_eq!(send(&mut conn, (pid, began), Provided::Always), [true]);
        assert!(diesel::sql_query("SELECT 1").execute(&mut other).is_err());
    }

    /// How `pid` keeps the session `us` waiting.
    fn block_by(conn: &mut PgConnection, pid: i32, us: i32) -> Block {
        type Columns = <Processes as diesel::query_builder::Query>::SqlType;
        let mut driver = SyncDriver(conn);
        let processes = ready(driver.load::<_, Columns, Process>(Processes));
        WaitChain::walk(us, processes.unwrap()).block_by(pid)
    }

    /// A session that waits for an advisory lock until its holder ends, and a third that looks.
    struct Blocked {
        conn: PgConnection,
        us: Us,
        victim: (i32, Option<DateTime<Utc>>),
        waits: std::thread::JoinHandle<()>,
        _server: Sandbox,
    }

    impl Blocked {
        fn new() -> Self {
            let server = Sandbox::start().unwrap();
            let connect = || PgConnection::establish(&server.url()).unwrap();
            let (mut conn, mut holder, mut waiter) = (connect(), connect(), connect());
            let lock = "SELECT pg_advisory_lock(1)";
            diesel::sql_query(lock).execute(&mut holder).unwrap();
            let victim = ready(SyncDriver(&mut holder).ask(Identify)).unwrap();
            let us = ready(Us::identify(&mut SyncDriver(&mut waiter))).unwrap();
            let waits = std::thread::spawn(move || {
                let _holder = holder;
                diesel::sql_query(lock).execute(&mut waiter).unwrap();
            });
            while ready(SyncDriver(&mut conn).ask(BlockingPids(us.pid))).unwrap() != [victim.0] {
                std::thread::yield_now();
            }
            Self {
                conn,
                us,
                victim,
                waits,
                _server: server,
            }
        }

        fn block(&mut self) -> Block {
            block_by(&mut self.conn, self.victim.0, self.us.pid)
        }

        /// What came of a signal that is meant for this block of this session of ours.
        fn send(&mut self, us: Us, block: Block) -> Vec<bool> {
            let way = Provided::Leads {
                us,
                waiters: vec![us.pid],
                blockers: vec![self.victim.0],
                block,
            };
            send(&mut self.conn, self.victim, way)
        }
    }

    #[test]
    fn nobody_is_signalled_for_a_session_whose_pid_was_given_to_another() {
        let mut blocked = Blocked::new();
        let (us, block) = (blocked.us, blocked.block());
        let successor = Us {
            backend_start: us.backend_start.map(|it| it - TimeDelta::microseconds(1)),
            ..us
        };
        assert!(blocked.send(successor, block.clone()).is_empty());
        assert_eq!(blocked.send(us, block), [true]);
        blocked.waits.join().unwrap();
    }

    #[test]
    fn a_prioritized_session_is_not_signalled() {
        let mut blocked = Blocked::new();
        let (us, block, victim) = (blocked.us, blocked.block(), blocked.victim.0);
        let mark = CheckWatcher {
            us: Us {
                pid: victim,
                backend_start: None,
            },
            audit: false,
        };
        let marked = ready(SyncDriver(&mut blocked.conn).ask(mark)).unwrap();
        assert_eq!(marked.2, Some(true));
        assert!(blocked.send(us, block.clone()).is_empty());
        assert!(ready(SyncDriver(&mut blocked.conn).ask(Unmark(victim))).unwrap());
        assert_eq!(blocked.send(us, block), [true]);
        blocked.waits.join().unwrap();
    }

    #[test]
    fn nobody_is_signalled_for_a_wait_that_is_over() {
        let mut blocked = Blocked::new();
        let (us, block) = (blocked.us, blocked.block());
        let with = |change: fn(&mut Block)| {
            let mut other = block.clone();
            change(&mut other);
            other
        };
        let later = |it: DateTime<Utc>| it + TimeDelta::microseconds(1);
        let begins_later =
            |block: &mut Block| block.waits[0].start = block.waits[0].start.map(later);
        let mut others = vec![with(|block| block.waits[0].lock.push('2'))];
        if block.waits[0].start.is_some() {
            let mut other = block.clone();
            begins_later(&mut other);
            others.push(other);
        }
        // As on a server that does not show when a wait began.
        others.push(with(|block| {
            block.waits[0].start = None;
            block.waits[0].transaction.push('2');
        }));
        others.push(with(|block| {
            block.waits[0].start = None;
            block.blocker_transaction = Some("1/1".to_owned());
        }));
        for other in others {
            assert!(blocked.send(us, other.clone()).is_empty(), "{other:?}");
        }
        assert_eq!(
            blocked.send(us, with(|block| block.waits[0].start = None)),
            [true]
        );
        blocked.waits.join().unwrap();
    }
}
