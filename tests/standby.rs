//! A server in recovery: its advisory locks, and the sessions that hold up its replay.

use diesel::PgConnection;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_pglock::prelude::*;
use diesel_pglock::schema::pg_stat_activity;
use diesel_pglock::{
    BlockKind, BlockedPgLock, Error, LockMode, PgActivity, SignalOutcome, WaitGraph,
};
use pglock_sandbox::Sandbox;

use crate::support::*;

#[test]
fn an_advisory_lock_on_a_standby_is_refused_unless_it_is_asked_for() {
    let server = Sandbox::start().unwrap();
    let signal = server.socket_dir().join("data/standby.signal");
    std::fs::write(signal, "").unwrap();
    server.restart().unwrap();
    wait_until("the standby accepts sessions", || {
        PgConnection::establish(&server.url()).is_ok()
    });
    let mut conn = PgConnection::establish(&server.url()).unwrap();
    let recovery = "SELECT pg_is_in_recovery()::int";
    assert_eq!(count(&mut conn, recovery), 1);
    let refused = conn.advisory(1).run(|_| Ok::<_, Error>(()));
    assert!(matches!(refused, Err(Error::InRecovery)), "{refused:?}");
    let refused = conn.advisory(1).xact().try_run(|_| Ok::<_, Error>(()));
    assert!(matches!(refused, Err(Error::InRecovery)), "{refused:?}");
    assert_eq!(advisory_locks(&mut conn), 0);
    let ran = conn.advisory(1).on_standby().run(|conn| {
        assert_eq!(advisory_locks(conn), 1);
        Ok::<_, Error>(())
    });
    ran.unwrap();
    assert_eq!(advisory_locks(&mut conn), 0);
}

/// A reader on a standby that holds up the replay of a lock.
struct HeldUp {
    primary: Sandbox,
    standby: Sandbox,
    database: Database,
    reader: PgConnection,
    reader_pid: i32,
}

impl HeldUp {
    fn new() -> Self {
        let primary = Sandbox::start().unwrap();
        let written = Database::on(&primary);
        let standby = standby_of(&primary);
        let database = Database::in_place(standby.url_for(&written.name), &written.name);
        let mut reader = database.connect();
        await_replay(&mut written.connect(), &mut reader);
        reader.batch_execute("BEGIN; SELECT FROM users").unwrap();
        let reader_pid = pid(&mut reader);
        written.running("ALTER TABLE users ADD COLUMN age int");
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted";
        let mut observer = database.connect();
        wait_until("the replay waits", || count(&mut observer, waits) == 1);
        Self {
            primary,
            standby,
            database,
            reader,
            reader_pid,
        }
    }

    fn end(self) {
        drop(self.reader);
        self.standby.stop();
        self.primary.stop();
    }
}

#[test]
fn a_reader_that_holds_up_the_replay_is_a_root() {
    let held_up = HeldUp::new();
    let mut conn = held_up.database.connect();
    let graph = WaitGraph::load(&mut conn).unwrap();
    let roots: Vec<_> = graph.roots().map(|root| root.pid).collect();
    assert_eq!(roots, [Some(held_up.reader_pid)]);
    let startup = graph.waiters_of(held_up.reader_pid).next().unwrap();
    let wait = startup.wait.as_ref().unwrap();
    assert_eq!(wait.blockers[0].kind, BlockKind::Hard);
    let text = graph.to_string();
    let line = format!("{} startup waits ", startup.pid.unwrap());
    assert!(text.contains(&line), "{text}");
    assert!(
        text.contains("AccessExclusiveLock on relation public.users"),
        "{text}"
    );

    let blocked: Vec<BlockedPgLock> = BlockedPgLock::query().load(&mut conn).unwrap();
    assert_eq!(blocked.len(), 1);
    assert_eq!(blocked[0].blocking_pid, held_up.reader_pid);
    assert_eq!(blocked[0].lock.mode, LockMode::AccessExclusive);

    let signals = BlockedPgLock::query()
        .terminate_blocking_activity(&mut conn)
        .unwrap();
    assert_eq!(signals.len(), 1);
    assert_eq!(signals[0].outcome, SignalOutcome::Sent);
    wait_until("the replay goes on", || {
        WaitGraph::load(&mut conn).unwrap().is_empty()
    });
    held_up.end();
}

#[test]
fn the_replay_cannot_be_signalled() {
    let held_up = HeldUp::new();
    let mut conn = held_up.database.connect();
    let startup = || PgActivity::query().filter(pg_stat_activity::backend_type.eq("startup"));
    let before: PgActivity = startup().first(&mut conn).unwrap();
    let signals = startup().terminate_activity(&mut conn).unwrap();
    assert_eq!(signals.len(), 1);
    assert_eq!(signals[0].outcome, SignalOutcome::Unsignallable);
    let after: PgActivity = startup().first(&mut conn).unwrap();
    assert_eq!(before.pid, after.pid);
    held_up.end();
}

#[cfg(feature = "cli")]
#[test]
fn the_command_watches_the_reader_on_a_standby() {
    use crate::command::watch::Watch;

    let held_up = HeldUp::new();
    let watch = Watch::start(&held_up.database, &[]);
    let line = watch.line("episode 1 started: ");
    let reader = format!("1 session waits behind 1: {} ", held_up.reader_pid);
    assert!(
        line.contains(&reader) || line.contains(reader.trim_end()),
        "{line}"
    );
    assert_eq!(watch.end().0, Some(0));
    held_up.end();
}

#[cfg(feature = "cli")]
#[test]
fn the_command_names_the_reader_and_terminates_it() {
    use crate::command::pglock;

    let held_up = HeldUp::new();
    let db = &held_up.database;
    let tree = pglock(db, &["tree"]);
    assert_eq!(tree.code, 0, "{tree:?}");
    let reader = format!("{} idle in transaction", held_up.reader_pid);
    assert!(tree.out.contains(&format!("\n{reader}")), "{tree:?}");
    assert!(tree.out.contains("startup waits"), "{tree:?}");
    let list = pglock(db, &["--blocking", "-a", "activity.application"]);
    assert_eq!(list.out.lines().nth(1), Some("startup"), "{list:?}");
    let ended = pglock(db, &["--blocking", "--terminate", "--yes"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended.out.contains(&held_up.reader_pid.to_string()),
        "{ended:?}"
    );
    let ended = pglock(
        db,
        &[
            "-f",
            "activity.backend_type=startup",
            "--terminate",
            "--yes",
        ],
    );
    assert_eq!(
        (ended.code, ended.out.contains("process of the server")),
        (4, true),
        "{ended:?}"
    );
    held_up.end();
}
