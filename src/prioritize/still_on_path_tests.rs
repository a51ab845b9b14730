//! Signals of a watcher on a real server: they are sent only while their reason persists.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::sql_types::{Bool, Nullable};
use diesel::{Connection, PgConnection, RunQueryDsl};
use pglock_sandbox::Sandbox;

use super::statement::{BlockingPids, CheckWatcher, LeaveSession};
use super::wait_chain::WaitChain;
use crate::session::{Driver, Identify, SessionIdentity};
use crate::session::{SyncDriver, run_ready};
use crate::signal::{Block, WaitPath};
use crate::signal::{Precondition, SendSignal, SignalKind, StillOnPath};

/// Returns the rows of a signal to the session of `pid`, if it started at `backend_start`.
fn send(
    conn: &mut PgConnection,
    (pid, backend_start): (i32, Option<DateTime<Utc>>),
    precondition: Precondition,
) -> Vec<bool> {
    let signal = SendSignal {
        kind: SignalKind::Terminate,
        pid,
        backend_start,
        precondition,
        expiry: None,
        is_observed: false,
    };
    let rows = run_ready(SyncDriver(conn).load::<_, Nullable<Bool>, Option<bool>>(signal));
    rows.unwrap().into_iter().map(Option::unwrap).collect()
}

#[test]
fn a_pid_that_was_given_to_another_session_is_not_signalled() {
    let server = Sandbox::start().unwrap();
    let connect = || PgConnection::establish(&server.url()).unwrap();
    let (mut conn, mut other) = (connect(), connect());
    let session = run_ready(SyncDriver(&mut other).ask(Identify)).unwrap();
    let (pid, started) = (session.pid, session.backend_start);
    let predecessor = (
        pid,
        started.map(|started| started - TimeDelta::microseconds(1)),
    );
    assert!(send(&mut conn, predecessor, Precondition::None).is_empty());
    let path = Precondition::StillOnPath(StillOnPath {
        session,
        wait_path: WaitPath::through(&[1, pid]),
        block: block_by(&mut conn, pid, 1),
        must_be_root: true,
        spares_pg_dump: true,
    });
    assert!(
        send(&mut conn, (pid, started), path).is_empty(),
        "it does not block"
    );
    diesel::sql_query("SELECT 1").execute(&mut other).unwrap();
    assert_eq!(send(&mut conn, (pid, started), Precondition::None), [true]);
    assert!(diesel::sql_query("SELECT 1").execute(&mut other).is_err());
}

/// Returns the block of the session `prioritized` by `pid`.
fn block_by(conn: &mut PgConnection, pid: i32, prioritized: i32) -> Block {
    let chain = run_ready(WaitChain::read(&mut SyncDriver(conn), prioritized));
    chain.unwrap().block_by(pid)
}

/// A session that waits for an advisory lock until its holder ends, and a third that watches.
struct Blocked {
    conn: PgConnection,
    session: SessionIdentity,
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
        let victim = (victim.pid, victim.backend_start);
        let session = run_ready(SessionIdentity::identify(&mut SyncDriver(&mut waiter))).unwrap();
        let waits = std::thread::spawn(move || {
            let _holder = holder;
            diesel::sql_query(lock).execute(&mut waiter).unwrap();
        });
        let look = |conn: &mut _| run_ready(SyncDriver(conn).ask(BlockingPids(session.pid)));
        while look(&mut conn).unwrap().blockers != [victim.0] {
            std::thread::yield_now();
        }
        Self {
            conn,
            session,
            victim,
            waits,
            _server: server,
        }
    }

    fn block(&mut self) -> Block {
        block_by(&mut self.conn, self.victim.0, self.session.pid)
    }

    /// Returns the rows of a signal for this block of this prioritized session.
    fn send(&mut self, session: SessionIdentity, block: Block) -> Vec<bool> {
        let path = Precondition::StillOnPath(StillOnPath {
            session,
            wait_path: WaitPath::through(&[session.pid, self.victim.0]),
            block,
            must_be_root: true,
            spares_pg_dump: true,
        });
        send(&mut self.conn, self.victim, path)
    }
}

#[test]
fn no_session_is_signalled_for_a_later_session_with_the_same_pid() {
    let mut blocked = Blocked::new();
    let (session, block) = (blocked.session, blocked.block());
    let successor = SessionIdentity {
        backend_start: session
            .backend_start
            .map(|it| it - TimeDelta::microseconds(1)),
        ..session
    };
    assert!(blocked.send(successor, block.clone()).is_empty());
    assert_eq!(blocked.send(session, block), [true]);
    blocked.waits.join().unwrap();
}

#[test]
fn a_prioritized_session_is_not_signalled() {
    let mut blocked = Blocked::new();
    let (session, block, victim) = (blocked.session, blocked.block(), blocked.victim.0);
    let victim_session = SessionIdentity {
        pid: victim,
        backend_start: None,
        ..session
    };
    let mark = CheckWatcher::new(victim_session, false);
    let marked = run_ready(SyncDriver(&mut blocked.conn).ask(mark)).unwrap();
    assert_eq!(marked.is_marked, Some(true));
    assert!(blocked.send(session, block.clone()).is_empty());
    let leave = LeaveSession {
        prioritized: victim,
        previous: marked.previous,
    };
    assert!(
        run_ready(SyncDriver(&mut blocked.conn).ask(leave))
            .unwrap()
            .0
    );
    assert_eq!(blocked.send(session, block), [true]);
    blocked.waits.join().unwrap();
}

#[test]
fn no_session_is_signalled_for_a_wait_that_has_ended() {
    let mut blocked = Blocked::new();
    let (session, block) = (blocked.session, blocked.block());
    let with = |change: fn(&mut Block)| {
        let mut other = block.clone();
        change(&mut other);
        other
    };
    let later = |it: DateTime<Utc>| it + TimeDelta::microseconds(1);
    let begins_later = |block: &mut Block| block.waits[0].start = block.waits[0].start.map(later);
    let mut others = vec![with(|block| block.waits[0].lock.push('2'))];
    if block.waits[0].start.is_some() {
        let mut other = block.clone();
        begins_later(&mut other);
        others.push(other);
    }
    // As on a server that does not show the start of a wait.
    others.push(with(|block| {
        block.waits[0].start = None;
        block.waits[0].transaction.push('2');
    }));
    others.push(with(|block| {
        block.waits[0].start = None;
        block.blocker_transaction = Some("1/1".to_owned());
    }));
    for other in others {
        assert!(blocked.send(session, other.clone()).is_empty(), "{other:?}");
    }
    assert_eq!(
        blocked.send(session, with(|block| block.waits[0].start = None)),
        [true]
    );
    blocked.waits.join().unwrap();
}
