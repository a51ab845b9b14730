//! The statements of the watcher, cheapest first.

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, Text, Timestamptz};

use crate::session::PrioritizedSession;
use crate::session::query;
use crate::signal::HAS_SYNCHRONOUS_STANDBY;
use crate::signal::{AWAITED, WAIT_START};
use crate::signal::{IS_MARK, walk_mark};
use crate::views::CURRENT_DATABASE_OID;

/// What the watcher has to know of its own session before it may signal anybody: whether
/// it sees us, on our server, and whether it may write to the signal log.
///
/// If it may go on it also marks us, and tells whether it did.
#[derive(Debug)]
pub(crate) struct CheckWatcher {
    pub(crate) us: PrioritizedSession,
    /// Whether it has to write to the signal log.
    pub(crate) audit: bool,
}

query!(CheckWatcher => (Bool, Bool, Nullable<Bool>), (bool, bool, Option<bool>));

impl QueryFragment<Pg> for CheckWatcher {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT c.sees_us, c.has_log, CASE WHEN c.sees_us AND (c.has_log OR NOT ");
        out.push_bind_param::<Bool, _>(&self.audit)?;
        out.push_sql(") THEN ");
        walk_mark(&self.us.pid, out.reborrow())?;
        out.push_sql(" END FROM (SELECT ");
        self.us.walk_ast(out.reborrow())?;
        out.push_sql(
            " AS sees_us, EXISTS (SELECT FROM pg_catalog.pg_class AS c \
             JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
             WHERE n.nspname = 'pglock' AND c.relname = 'signal_log' \
             AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
             AND pg_catalog.has_table_privilege(c.oid, 'INSERT')) AS has_log OFFSET 0) AS c",
        );
        Ok(())
    }
}

/// Who is in the way of one session: all that is asked as long as it is nobody.
#[derive(Debug)]
pub(crate) struct BlockingPids(pub(crate) i32);

query!(BlockingPids => Array<Integer>, Vec<i32>);

impl QueryFragment<Pg> for BlockingPids {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT pg_catalog.pg_blocking_pids(");
        out.push_bind_param::<Integer, _>(&self.0)?;
        out.push_sql(")");
        Ok(())
    }
}

/// Reads the locks of the server: a row for each process that holds or awaits one, with the
/// session that it works for, which alone others wait for.
///
/// Not from `pg_stat_activity`, which shows a role without `pg_read_all_stats`
/// nobody else's waits.
#[derive(Debug)]
pub(crate) struct Processes;

/// A process that holds or awaits a lock.
#[derive(Debug, diesel::Queryable)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// Its own, unless it works for a parallel query.
    pub(crate) session: i32,
    /// Empty unless it waits.
    pub(crate) blockers: Vec<i32>,
    /// What it waits for; see [`AWAITED`].
    pub(crate) awaited: Option<String>,
    pub(crate) wait_start: Option<DateTime<Utc>>,
    pub(crate) virtual_transaction: String,
    /// The sessions that it marks, if it is a watcher's.
    pub(crate) marks: Vec<i64>,
}

type ProcessColumns = (
    Integer,
    Integer,
    Array<Integer>,
    Nullable<Text>,
    Nullable<Timestamptz>,
    Text,
    Array<BigInt>,
);

query!(Processes => ProcessColumns, Process);

impl QueryFragment<Pg> for Processes {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        // pg_locks is read once, and grouped first: pg_blocking_pids holds up the server's
        // whole lock table. A process waits for one lock, and shows one virtual transaction.
        out.push_sql(
            "SELECT p.pid, coalesce(a.leader_pid, p.pid), CASE WHEN p.awaited IS NULL THEN '{}' \
             ELSE pg_catalog.pg_blocking_pids(p.pid) END, p.awaited, p.wait_start, p.virtualtransaction, p.marks \
             FROM (SELECT l.pid, pg_catalog.min(",
        );
        out.push_sql(AWAITED);
        out.push_sql(") FILTER (WHERE NOT l.granted) AS awaited, pg_catalog.min(");
        out.push_sql(WAIT_START);
        out.push_sql(
            ") FILTER (WHERE NOT l.granted) AS wait_start, \
             pg_catalog.min(l.virtualtransaction) AS virtualtransaction, \
             coalesce(pg_catalog.array_agg(l.objid::pg_catalog.int8) FILTER (WHERE ",
        );
        out.push_sql(IS_MARK);
        out.push_sql(
            "), '{}') AS marks FROM pg_catalog.pg_locks AS l WHERE l.pid IS NOT NULL GROUP BY l.pid OFFSET 0) AS p \
             LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = p.pid \
             AND a.backend_type = 'parallel worker'",
        );
        Ok(())
    }
}

/// Whether commits wait for a standby. Asked only where the sessions that do so are not to be
/// told from others.
#[derive(Debug)]
pub(crate) struct HasSynchronousStandby;

query!(HasSynchronousStandby => Bool, bool);

impl QueryFragment<Pg> for HasSynchronousStandby {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT ");
        out.push_sql(HAS_SYNCHRONOUS_STANDBY);
        Ok(())
    }
}

/// What a session holds, for the signal log: one `mode on thing` each, in alphabetical order.
#[derive(Debug)]
pub(crate) struct HeldBy(pub(crate) i32);

query!(HeldBy => Array<Text>, Vec<String>);

impl QueryFragment<Pg> for HeldBy {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "SELECT coalesce(pg_catalog.array_agg(h.held ORDER BY h.held), '{}') FROM (SELECT DISTINCT \
             pg_catalog.concat(l.mode, ' on ', CASE WHEN c.oid IS NOT NULL \
             THEN pg_catalog.concat(n.nspname, '.', c.relname) \
             WHEN l.relation IS NOT NULL THEN l.relation::text \
             WHEN l.locktype = 'advisory' \
             THEN pg_catalog.concat('advisory ', l.classid, ', ', l.objid, ', ', l.objsubid) \
             ELSE l.locktype END) AS held \
             FROM pg_catalog.pg_locks AS l \
             LEFT JOIN pg_catalog.pg_class AS c ON c.oid = l.relation AND l.database IN (0::pg_catalog.oid, ",
        );
        out.push_sql(CURRENT_DATABASE_OID);
        out.push_sql(
            ") LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
             WHERE l.granted AND l.locktype <> 'virtualxid' AND l.pid = ",
        );
        out.push_bind_param::<Integer, _>(&self.0)?;
        out.push_sql(") AS h");
        Ok(())
    }
}

#[cfg(all(test, feature = "postgres"))]
mod tests {
    use chrono::TimeDelta;
    use diesel::{Connection, PgConnection, RunQueryDsl};
    use pglock_sandbox::Sandbox;

    use super::*;
    use crate::prioritize::wait_chain::WaitChain;
    use crate::session::Driver;
    use crate::session::Identify;
    use crate::session::{SyncDriver, run_ready};
    use crate::signal::Block;
    use crate::signal::SignalKind;
    use crate::signal::Unmark;
    use crate::signal::{Precondition, SendSignal};

    /// What came of a signal to the session of `pid`, if it began at `backend_start`.
    fn send(
        conn: &mut PgConnection,
        (pid, backend_start): (i32, Option<DateTime<Utc>>),
        provided: Precondition,
    ) -> Vec<bool> {
        let signal = SendSignal {
            kind: SignalKind::Terminate,
            pid,
            backend_start,
            provided,
        };
        run_ready(SyncDriver(conn).load::<_, Bool, bool>(signal)).unwrap()
    }

    #[test]
    fn a_pid_that_was_given_to_another_session_is_not_signalled() {
        let server = Sandbox::start().unwrap();
        let connect = || PgConnection::establish(&server.url()).unwrap();
        let (mut conn, mut other) = (connect(), connect());
        let (pid, began) = run_ready(SyncDriver(&mut other).ask(Identify)).unwrap();
        let predecessor = (pid, began.map(|began| began - TimeDelta::microseconds(1)));
        assert!(send(&mut conn, predecessor, Precondition::None).is_empty());
        let us = PrioritizedSession {
            pid,
            backend_start: began,
        };
        let way = Precondition::StillOnPath {
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
        assert_eq!(send(&mut conn, (pid, began), Precondition::None), [true]);
        assert!(diesel::sql_query("SELECT 1").execute(&mut other).is_err());
    }

    /// How `pid` keeps the session `us` waiting.
    fn block_by(conn: &mut PgConnection, pid: i32, us: i32) -> Block {
        type Columns = <Processes as diesel::query_builder::Query>::SqlType;
        let mut driver = SyncDriver(conn);
        let processes = run_ready(driver.load::<_, Columns, Process>(Processes));
        WaitChain::walk(us, processes.unwrap()).block_by(pid)
    }

    /// A session that waits for an advisory lock until its holder ends, and a third that looks.
    struct Blocked {
        conn: PgConnection,
        us: PrioritizedSession,
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
            let victim = run_ready(SyncDriver(&mut holder).ask(Identify)).unwrap();
            let us = run_ready(PrioritizedSession::identify(&mut SyncDriver(&mut waiter))).unwrap();
            let waits = std::thread::spawn(move || {
                let _holder = holder;
                diesel::sql_query(lock).execute(&mut waiter).unwrap();
            });
            while run_ready(SyncDriver(&mut conn).ask(BlockingPids(us.pid))).unwrap() != [victim.0]
            {
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
        fn send(&mut self, us: PrioritizedSession, block: Block) -> Vec<bool> {
            let way = Precondition::StillOnPath {
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
        let successor = PrioritizedSession {
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
            us: PrioritizedSession {
                pid: victim,
                backend_start: None,
            },
            audit: false,
        };
        let marked = run_ready(SyncDriver(&mut blocked.conn).ask(mark)).unwrap();
        assert_eq!(marked.2, Some(true));
        assert!(blocked.send(us, block.clone()).is_empty());
        assert!(run_ready(SyncDriver(&mut blocked.conn).ask(Unmark(victim))).unwrap());
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
