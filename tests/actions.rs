//! Cancelling and terminating the sessions that the lock views show.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel_pglock::prelude::*;
use diesel_pglock::schema::pg_stat_activity;
use diesel_pglock::{BlockedPgLock, Error, PgActivity, PgLock, Signal, SignalKind, SignalOutcome};

use crate::support::*;

/// Returns a session that holds `users` in an open transaction.
fn holder(db: &Database) -> PgConnection {
    db.running("BEGIN; LOCK TABLE users")
}

fn pids(signals: &[Signal]) -> Vec<i32> {
    signals.iter().map(|signal| signal.pid).collect()
}

fn answers(conn: &mut PgConnection) -> bool {
    conn.batch_execute("SELECT 1").is_ok()
}

#[test]
fn a_cancelled_waiter_stops_waiting() {
    let db = Database::new();
    let _holder = holder(&db);
    let waiting = Waiting::on(&db, "SELECT FROM users");
    let signals = PgLock::query()
        .on::<users::table>()
        .waiting()
        .cancel_activity(&mut db.connect())
        .unwrap();
    assert_eq!(pids(&signals), [waiting.pid]);
    assert_eq!(signals[0].kind, SignalKind::Cancel);
    assert_eq!(signals[0].outcome, SignalOutcome::Sent);
    assert!(waiting.finish().is_err());
}

#[test]
fn a_blocker_is_terminated_and_its_waiter_goes_on() {
    let db = Database::new();
    let mut holder = holder(&db);
    let holder_pid = pid(&mut holder);
    let waiting = Waiting::on(&db, "SELECT FROM users");
    let signals = BlockedPgLock::query()
        .on::<users::table>()
        .terminate_blocking_activity(&mut db.connect())
        .unwrap();
    assert_eq!(pids(&signals), [holder_pid]);
    assert_eq!(signals[0].kind, SignalKind::Terminate);
    assert_eq!(signals[0].outcome, SignalOutcome::Sent);
    waiting.finish().unwrap();
    assert!(!answers(&mut holder));
}

#[test]
fn a_cancel_of_a_session_that_is_idle_in_a_transaction_changes_nothing() {
    let db = Database::new();
    let mut holder = holder(&db);
    let waiting = Waiting::on(&db, "SELECT FROM users");
    let mut observer = db.connect();
    let signals = BlockedPgLock::query()
        .on::<users::table>()
        .cancel_blocking_activity(&mut observer)
        .unwrap();
    assert_eq!(signals[0].outcome, SignalOutcome::Sent);
    let still_waiting: i64 = BlockedPgLock::query()
        .pid(waiting.pid)
        .count()
        .get_result(&mut observer)
        .unwrap();
    assert_eq!(still_waiting, 1);
    holder.batch_execute("COMMIT").unwrap();
    waiting.finish().unwrap();
}

#[test]
fn a_session_is_signalled_once_however_many_locks_it_has() {
    let db = Database::new();
    let mut holder = holder(&db);
    holder
        .batch_execute("LOCK TABLE posts; SELECT pg_advisory_lock(i) FROM generate_series(1, 9) i")
        .unwrap();
    let waiting = [
        Waiting::on(&db, "SELECT FROM users"),
        Waiting::on(&db, "SELECT FROM posts"),
    ];
    let mut observer = db.connect();
    let holder_pid = pid(&mut holder);
    let signals = PgLock::query()
        .pid(holder_pid)
        .cancel_activity(&mut observer);
    assert_eq!(pids(&signals.unwrap()), [holder_pid]);
    let signals = BlockedPgLock::query()
        .blocked_by(holder_pid)
        .terminate_blocking_activity(&mut observer);
    assert_eq!(pids(&signals.unwrap()), [holder_pid]);
    for session in waiting {
        session.finish().unwrap();
    }
}

#[test]
fn without_blockers_no_session_is_signalled() {
    let db = Database::new();
    let mut conn = db.connect();
    let signals = BlockedPgLock::query()
        .on::<users::table>()
        .terminate_blocking_activity(&mut conn);
    assert_eq!(signals.unwrap(), []);
}

#[test]
fn a_cancel_of_the_own_session_is_an_error() {
    let db = Database::new();
    let mut conn = db.connect();
    let own = pid(&mut conn);
    let cancelled = PgLock::query().pid(own).cancel_activity(&mut conn);
    assert!(matches!(cancelled, Err(Error::Query(_))), "{cancelled:?}");
    assert!(answers(&mut conn));
}

#[test]
fn the_own_session_is_terminated_after_the_others() {
    let db = Database::new();
    let mut conn = db.connect();
    let own = pid(&mut conn);
    let mut other = holder(&db);
    let in_this_database = PgActivity::query()
        .filter(pg_stat_activity::datname.eq(db.name.clone()))
        .filter(pg_stat_activity::backend_type.eq("client backend"))
        .order_by(pg_stat_activity::pid.eq(own).desc())
        .into_boxed();
    let ended = in_this_database.terminate_activity(&mut conn);
    assert!(matches!(ended, Err(Error::Query(_))), "{ended:?}");
    assert!(!answers(&mut conn));
    assert!(!answers(&mut other));
}

#[test]
fn a_denied_signal_neither_stops_the_others_nor_aborts_the_transaction() {
    let db = Database::new();
    let role_url = db.role_url();
    let connect_as_role = || PgConnection::establish(&role_url).unwrap();
    let hold = "BEGIN; LOCK TABLE users IN ROW SHARE MODE";
    let (mut admins, mut own, mut more) = (db.connect(), connect_as_role(), db.connect());
    for conn in [&mut admins, &mut own, &mut more] {
        conn.batch_execute(hold).unwrap();
    }
    let (admins_pid, own_pid, more_pid) = (pid(&mut admins), pid(&mut own), pid(&mut more));

    let mut conn = connect_as_role();
    conn.transaction(|conn| {
        let signals = PgLock::query()
            .on::<users::table>()
            .order_by(diesel_pglock::schema::pg_locks::pid)
            .terminate_activity(conn)?;
        let outcome = |pid| {
            let signal = signals.iter().find(|signal| signal.pid == pid);
            signal.unwrap().outcome.clone()
        };
        assert_eq!(signals.len(), 3);
        assert_eq!(outcome(own_pid), SignalOutcome::Sent);
        for pid in [admins_pid, more_pid] {
            let SignalOutcome::Denied(message) = outcome(pid) else {
                panic!("{signals:?}");
            };
            assert!(!message.is_empty());
        }
        sql_query("SELECT 1").execute(conn)?;
        Ok::<_, Error>(())
    })
    .unwrap();
    wait_until("the own session has ended", || !answers(&mut own));
    assert!(answers(&mut admins) && answers(&mut more));
}

#[test]
fn a_session_that_no_longer_blocks_is_not_signalled() {
    let db = Database::new();
    let mut holder = holder(&db);
    let holder_pid = pid(&mut holder);
    let waiting = Waiting::on(&db, "SELECT FROM users");
    let mut conn = db.connect();
    // The query sees the holder as a blocker, and ends after the holder has committed.
    conn.batch_execute(&format!(
        "CREATE FUNCTION outlast(blocker int) RETURNS bool LANGUAGE plpgsql VOLATILE AS
         $$BEGIN
             WHILE EXISTS (SELECT FROM pg_locks WHERE pid = {} AND NOT granted) LOOP
                 PERFORM pg_sleep(0.01);
             END LOOP;
             RETURN true;
         END$$",
        waiting.pid
    ))
    .unwrap();
    let outlasts = diesel::dsl::sql::<diesel::sql_types::Bool>("outlast(blocking.pid)");
    let query = BlockedPgLock::query().pid(waiting.pid).filter(outlasts);
    let (own, mut observer) = (pid(&mut conn), db.connect());
    let commit = std::thread::spawn(move || {
        wait_until("the query outlasts the holder", || {
            let sleeps =
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND pid =";
            count(&mut observer, &format!("{sleeps} {own}")) == 1
        });
        holder.batch_execute("COMMIT").unwrap();
        holder
    });
    let signals = query.terminate_blocking_activity(&mut conn).unwrap();
    let mut holder = commit.join().unwrap();
    assert_eq!(pids(&signals), [holder_pid]);
    assert_eq!(signals[0].outcome, SignalOutcome::Gone);
    assert!(answers(&mut holder));
    waiting.finish().unwrap();
}

#[test]
fn a_cancelled_signal_statement_is_not_a_denial() {
    let db = Database::new();
    let mut conn = db.connect();
    conn.batch_execute("SET statement_timeout = '1ms'").unwrap();
    let slow = PgActivity::query().filter(diesel::dsl::sql::<diesel::sql_types::Bool>(
        "pg_sleep(1) IS NOT NULL",
    ));
    let result = slow.cancel_activity(&mut conn);
    assert!(matches!(result, Err(Error::Query(_))), "{result:?}");
}

#[test]
fn an_action_in_a_transaction_finds_new_sessions() {
    let db = Database::new();
    let mut conn = db.connect();
    conn.transaction(|conn| {
        // From this read on, the transaction sees the same rows of the view.
        PgActivity::query().load::<PgActivity>(conn)?;
        let mut late = holder(&db);
        let late_pid = pid(&mut late);
        let signals = PgLock::query().pid(late_pid).terminate_activity(conn)?;
        assert_eq!(pids(&signals), [late_pid]);
        assert_eq!(signals[0].outcome, SignalOutcome::Sent);
        wait_until("the session has ended", || !answers(&mut late));
        Ok::<_, Error>(())
    })
    .unwrap();
}

#[cfg(feature = "r2d2")]
#[test]
fn a_pooled_connection_acts_as_a_plain_one_does() {
    use diesel::r2d2::{ConnectionManager, Pool};

    let db = Database::new();
    let manager = ConnectionManager::<PgConnection>::new(&db.url);
    let pool = Pool::builder().max_size(1).build(manager).unwrap();
    let mut conn = pool.get().unwrap();
    let mut holder = holder(&db);
    let waiting = Waiting::on(&db, "SELECT FROM users");
    let graph = diesel_pglock::WaitGraph::load(&mut conn).unwrap();
    assert_eq!(graph.blocked_count(pid(&mut holder)), 1);
    let signals = PgLock::query()
        .pid(waiting.pid)
        .waiting()
        .cancel_activity(&mut conn);
    assert_eq!(pids(&signals.unwrap()), [waiting.pid]);
    assert!(waiting.finish().is_err());
}

#[cfg(feature = "async")]
#[tokio::test]
async fn an_async_connection_acts_as_a_sync_one_does() {
    use diesel_async::{AsyncConnection, AsyncPgConnection};

    let db = Database::new();
    let mut holder = holder(&db);
    let holder_pid = pid(&mut holder);
    let waiting = Waiting::on(&db, "SELECT FROM users");
    let mut conn = AsyncPgConnection::establish(&db.url).await.unwrap();
    let waiter = waiting.pid;
    let task = tokio::spawn(async move {
        let blocking = BlockedPgLock::query().pid(waiter);
        let signals = blocking.terminate_blocking_activity(&mut conn).await?;
        let gone = PgLock::query()
            .into_boxed()
            .pid(holder_pid)
            .cancel_activity(&mut conn)
            .await?;
        Ok::<_, Error>((signals, gone))
    });
    let (signals, _) = task.await.unwrap().unwrap();
    assert_eq!(pids(&signals), [holder_pid]);
    assert_eq!(signals[0].outcome, SignalOutcome::Sent);
    waiting.finish().unwrap();
}

#[test]
fn a_signal_to_the_roots_spares_the_queue() {
    let db = Database::new();
    let mut root = db.running("BEGIN; LOCK TABLE users IN SHARE MODE");
    let queued = Waiting::on(&db, "BEGIN; LOCK TABLE users; COMMIT");
    let last = Waiting::on(&db, "BEGIN; INSERT INTO users (name) VALUES ('x'); COMMIT");
    let mut conn = db.connect();
    let all = BlockedPgLock::query().current_database();
    let blockers: Vec<BlockedPgLock> = all.load(&mut conn).unwrap();
    assert!(blockers.iter().any(|it| it.blocking_pid == queued.pid));
    let signals = BlockedPgLock::query()
        .current_database()
        .roots()
        .terminate_blocking_activity(&mut conn)
        .unwrap();
    let pids: Vec<i32> = signals.iter().map(|it| it.pid).collect();
    let root_pid = blockers.iter().find(|it| it.lock.pid == Some(queued.pid));
    assert_eq!(pids, [root_pid.unwrap().blocking_pid]);
    queued.finish().unwrap();
    last.finish().unwrap();
    assert!(root.batch_execute("COMMIT").is_err());
}
