//! The lock views on a live server: every type of lock, held and awaited.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_pglock::prelude::*;
use diesel_pglock::schema::{pg_locks, pg_stat_activity};
use diesel_pglock::{
    AdvisoryKey, BackendState, BlockedPgLock, LockMode, LockType, PgActivity, PgLock,
    PreparedTransaction, RelationKind, TableLockMode,
};

use crate::support::*;

/// Returns a session with an open transaction in which it ran the statements.
fn holding(db: &Database, sql: &str) -> PgConnection {
    db.running(&format!("BEGIN; {sql}"))
}

fn locks_of(pid: i32, conn: &mut PgConnection) -> Vec<PgLock> {
    PgLock::query().pid(pid).load(conn).unwrap()
}

/// Returns the lock that a session awaits, with its only blocker.
fn blocked(pid: i32, conn: &mut PgConnection) -> BlockedPgLock {
    let rows = BlockedPgLock::query().pid(pid).load(conn).unwrap();
    let [row] = <[BlockedPgLock; 1]>::try_from(rows).expect("one blocker");
    row
}

#[test]
fn a_waiter_is_shown_with_its_blocker() {
    let db = Database::new();
    let mut holder = holding(&db, "LOCK TABLE users IN ROW EXCLUSIVE MODE");
    let waiting = Waiting::on(&db, "BEGIN; LOCK TABLE users; COMMIT");
    let mut observer = db.connect();

    let row = blocked(waiting.pid, &mut observer);
    assert_eq!(row.blocking_pid, pid(&mut holder));
    assert_eq!(row.lock.lock_type, LockType::Relation);
    assert_eq!(row.lock.mode, LockMode::AccessExclusive);
    let relation = row.lock.relation.unwrap();
    assert_eq!(relation.to_string(), "public.users");
    assert_eq!(relation.kind, RelationKind::Table);
    assert_eq!(row.lock.relation_oid, Some(relation.oid));
    assert_eq!(row.lock.database.as_deref(), Some(&*db.name));
    let waiter = row.lock.activity.unwrap();
    assert_eq!(
        waiter.query.as_deref(),
        Some("BEGIN; LOCK TABLE users; COMMIT")
    );
    assert_eq!(waiter.wait_event_type.as_deref(), Some("Lock"));
    let holds = row.blocking_activity.unwrap();
    assert_eq!(holds.pid, row.blocking_pid);
    assert!(holds.transaction_duration >= waiter.duration);

    holder.batch_execute("COMMIT").unwrap();
    let pid = waiting.pid;
    waiting.finish().unwrap();
    assert_eq!(locks_of(pid, &mut observer), []);
}

#[test]
fn a_wait_is_measured_within_a_transaction_too() {
    let db = Database::new();
    let mut observer = holding(&db, "SELECT 1");
    let _holder = holding(&db, "LOCK TABLE users");
    let waiting = Waiting::on(&db, "SELECT FROM users");
    let wait_duration = |observer: &mut PgConnection| {
        let [lock] = <[PgLock; 1]>::try_from(
            PgLock::query()
                .pid(waiting.pid)
                .waiting()
                .load::<PgLock>(observer)
                .unwrap(),
        )
        .unwrap();
        assert_eq!(lock.wait_start.is_some(), lock.wait_duration.is_some());
        lock.wait_duration
    };
    if server().version() < 14 {
        assert_eq!(wait_duration(&mut observer), None);
        return;
    }
    // The server records the start a moment after the wait began.
    let mut first = None;
    wait_until("the start of the wait is known", || {
        first = wait_duration(&mut observer);
        first.is_some()
    });
    let first = first.unwrap();
    assert!(first >= chrono::TimeDelta::zero(), "{first}");
    assert!(wait_duration(&mut observer).unwrap() > first);
}

#[test]
fn an_advisory_lock_shows_its_key_in_both_key_spaces() {
    let db = Database::new();
    let mut observer = db.connect();
    let keys = [
        (AdvisoryKey::new(i64::MIN), "-9223372036854775808"),
        (AdvisoryKey::new(-1), "-1"),
        (AdvisoryKey::pair(-1, i32::MAX), "-1, 2147483647"),
        (AdvisoryKey::named("hello"), "1054880662928880172"),
    ];
    for (key, arguments) in keys {
        let mut holder = db.connect();
        let holder_pid = pid(&mut holder);
        let _guard = holder.advisory(key).acquire().unwrap();
        let waiting = Waiting::on(
            &db,
            &format!("SELECT pg_advisory_xact_lock_shared({arguments})"),
        );
        let row = blocked(waiting.pid, &mut observer);
        assert_eq!(row.lock.advisory_key, Some(key));
        assert_eq!(row.lock.lock_type, LockType::Advisory);
        assert_eq!(row.lock.mode, LockMode::Share);
        assert_eq!(row.lock.relation, None);
        assert_eq!(row.blocking_pid, holder_pid);
        let state = row.blocking_activity.unwrap().state;
        assert_eq!(state, Some(BackendState::Idle));
        let held: PgLock = PgLock::query()
            .advisory(key)
            .granted()
            .first(&mut observer)
            .unwrap();
        assert_eq!(
            (held.pid, held.mode),
            (Some(holder_pid), LockMode::Exclusive)
        );
        drop(_guard);
        waiting.finish().unwrap();
    }
}

#[test]
fn a_queue_for_a_row_waits_for_the_transaction_and_then_for_the_row() {
    let db = Database::new();
    let change = "UPDATE users SET name = 'x' WHERE id = 1";
    let mut holder = holding(&db, change);
    let first = Waiting::on(&db, &format!("BEGIN; {change}; COMMIT"));
    let second = Waiting::on(&db, &format!("BEGIN; {change}; COMMIT"));
    let mut observer = db.connect();

    let row = blocked(first.pid, &mut observer);
    assert_eq!(row.lock.lock_type, LockType::TransactionId);
    assert_eq!(row.blocking_pid, pid(&mut holder));
    let changed_by = row.blocking_activity.unwrap();
    assert_eq!(row.lock.transaction_id, changed_by.backend_xid);
    assert_eq!(changed_by.state, Some(BackendState::IdleInTransaction));

    let row = blocked(second.pid, &mut observer);
    assert_eq!(row.lock.lock_type, LockType::Tuple);
    assert_eq!(row.lock.relation.unwrap().name, "users");
    assert_eq!((row.lock.page, row.lock.tuple), (Some(0), Some(1)));
    assert_eq!(row.blocking_pid, first.pid);

    holder.batch_execute("COMMIT").unwrap();
    first.finish().unwrap();
    second.finish().unwrap();
}

#[test]
fn a_concurrent_index_waits_for_virtual_transactions() {
    let db = Database::new();
    let mut holder = holding(
        &db,
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT FROM users",
    );
    let waiting = Waiting::on(&db, "CREATE INDEX CONCURRENTLY ON users (name)");
    let mut observer = db.connect();
    let row = blocked(waiting.pid, &mut observer);
    assert_eq!(row.lock.lock_type, LockType::VirtualXid);
    assert_eq!(row.blocking_pid, pid(&mut holder));
    let held = locks_of(row.blocking_pid, &mut observer);
    let own = held
        .iter()
        .find(|lock| lock.virtual_xid == row.lock.virtual_xid);
    assert_eq!(own.unwrap().mode, LockMode::Exclusive);
    holder.batch_execute("COMMIT").unwrap();
    waiting.finish().unwrap();
}

#[test]
fn an_object_that_is_not_a_relation_shows_its_catalog() {
    let db = Database::new();
    let mut holder = holding(&db, "COMMENT ON SCHEMA public IS 'busy'");
    let waiting = Waiting::on(&db, "COMMENT ON SCHEMA public IS 'mine'");
    let mut observer = db.connect();
    let row = blocked(waiting.pid, &mut observer);
    assert_eq!(row.lock.lock_type, LockType::Object);
    let catalog = i64::from(row.lock.class_id.unwrap());
    assert_eq!(
        catalog,
        count(&mut observer, "'pg_namespace'::regclass::oid")
    );
    assert_eq!(row.lock.object_subid, Some(0));
    assert_eq!(row.lock.target().to_string(), "schema public");
    assert_eq!(row.lock.advisory_key, None);
    holder.batch_execute("COMMIT").unwrap();
    waiting.finish().unwrap();
}

#[test]
fn a_shared_object_is_named() {
    let db = Database::new();
    let mut holder = holding(&db, &format!("COMMENT ON DATABASE {} IS 'busy'", db.name));
    let comment = format!("COMMENT ON DATABASE {} IS 'mine'", db.name);
    let waiting = Waiting::on(&db, &comment);
    let row = blocked(waiting.pid, &mut Database::new().connect());
    assert_eq!(
        row.lock.target().to_string(),
        format!("database {}", db.name)
    );
    assert_eq!(row.lock.database_oid, Some(0));
    holder.batch_execute("COMMIT").unwrap();
    waiting.finish().unwrap();
}

#[test]
fn the_reads_of_a_serializable_transaction_are_shown_by_page_and_row() {
    let db = Database::new();
    let mut reader = holding(
        &db,
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; SET LOCAL enable_seqscan = off;
         SELECT name FROM users WHERE id = 1",
    );
    let reader_pid = pid(&mut reader);
    let mut observer = db.connect();
    let mut read = |lock_type| -> PgLock {
        PgLock::query()
            .pid(reader_pid)
            .lock_type(lock_type)
            .first(&mut observer)
            .unwrap()
    };
    let page = read(LockType::Page);
    assert_eq!(page.mode, LockMode::SiReadLock);
    assert_eq!(page.target().to_string(), "page 1 of public.users_pkey");
    assert_eq!(page.relation.unwrap().kind, RelationKind::Index);
    let row = read(LockType::Tuple);
    assert_eq!(row.target().to_string(), "row (0,1) of public.users");
}

#[test]
fn a_select_waits_behind_an_alter_that_waits() {
    let db = Database::new();
    let mut holder = holding(&db, "SELECT FROM users");
    let alter = Waiting::on(&db, "ALTER TABLE users ADD COLUMN age int");
    let select = Waiting::on(&db, "SELECT FROM users");
    let mut observer = db.connect();
    assert_eq!(
        blocked(alter.pid, &mut observer).blocking_pid,
        pid(&mut holder)
    );
    // The mode of the holder does not conflict with that of the SELECT; that of the ALTER does.
    assert_eq!(blocked(select.pid, &mut observer).blocking_pid, alter.pid);
    holder.batch_execute("COMMIT").unwrap();
    alter.finish().unwrap();
    select.finish().unwrap();
}

#[test]
fn every_mode_is_shown_as_it_was_acquired() {
    let db = Database::new();
    let mut observer = db.connect();
    for mode in TableLockMode::ALL {
        let mut holder = holding(&db, &format!("LOCK TABLE users IN {mode} MODE"));
        let held: Vec<PgLock> = PgLock::query()
            .on::<users::table>()
            .mode(mode)
            .load(&mut observer)
            .unwrap();
        assert_eq!(held.len(), 1, "{mode}");
        assert_eq!(held[0].pid, Some(pid(&mut holder)));
    }
}

#[test]
fn a_prepared_transaction_has_locks_and_no_session() {
    let db = Database::new();
    let gid = format!("{}_gone", db.name);
    let mut conn = holding(&db, "LOCK TABLE users; UPDATE users SET name = ''");
    conn.batch_execute(&format!("PREPARE TRANSACTION '{gid}'"))
        .unwrap();
    let waiting = Waiting::on(&db, "SELECT FROM users");

    let prepared: PreparedTransaction = PreparedTransaction::query()
        .filter(diesel_pglock::schema::pg_prepared_xacts::gid.eq(&gid))
        .first(&mut conn)
        .unwrap();
    assert_eq!(prepared.database, db.name);
    let row = blocked(waiting.pid, &mut conn);
    assert_eq!((row.blocking_pid, row.blocking_activity), (0, None));
    let held: PgLock = PgLock::query()
        .on::<users::table>()
        .mode(LockMode::AccessExclusive)
        .first(&mut conn)
        .unwrap();
    assert_eq!((held.pid, held.activity), (None, None));
    let own: PgLock = PgLock::query()
        .lock_type(LockType::TransactionId)
        .filter(pg_locks::virtualtransaction.eq(held.virtual_transaction))
        .first(&mut conn)
        .unwrap();
    assert_eq!(own.transaction_id, Some(prepared.transaction_id));

    conn.batch_execute(&format!("ROLLBACK PREPARED '{gid}'"))
        .unwrap();
    waiting.finish().unwrap();
}

#[test]
fn a_relation_of_another_database_has_its_oid_and_no_name() {
    let (here, there) = (Database::new(), Database::new());
    let mut holder = holding(&there, "LOCK TABLE users");
    let mut observer = here.connect();
    let locks = locks_of(pid(&mut holder), &mut observer);
    let lock = locks
        .iter()
        .find(|lock| lock.mode == LockMode::AccessExclusive)
        .unwrap();
    assert_eq!(lock.relation, None);
    assert!(lock.relation_oid.is_some());
    assert_eq!(lock.database.as_deref(), Some(&*there.name));
}

#[test]
fn a_shared_catalog_is_named_in_every_database() {
    let (here, there) = (Database::new(), Database::new());
    let mut holder = holding(&there, "LOCK TABLE pg_database IN ROW SHARE MODE");
    let mut observer = here.connect();
    let locks = locks_of(pid(&mut holder), &mut observer);
    let lock = locks.iter().find(|lock| lock.mode == LockMode::RowShare);
    let lock = lock.unwrap();
    let relation = lock.relation.as_ref().unwrap();
    assert_eq!(relation.to_string(), "pg_catalog.pg_database");
    assert_eq!(lock.database, None);
}

#[test]
fn one_lock_is_one_row() {
    let db = Database::new();
    let _holders: Vec<_> = (0..5)
        .map(|_| holding(&db, "LOCK TABLE users IN ACCESS SHARE MODE"))
        .collect();
    let mut observer = db.connect();
    let found: i64 = PgLock::query()
        .on::<users::table>()
        .count()
        .get_result(&mut observer)
        .unwrap();
    assert_eq!(found, 5);
}

#[test]
fn the_address_of_a_client_is_read() {
    let db = Database::new();
    let mut conn = PgConnection::establish(&server().tcp_url_for(&db.name)).unwrap();
    let own = pid(&mut conn);
    let activity: PgActivity = PgActivity::query()
        .filter(pg_stat_activity::pid.eq(own))
        .first(&mut conn)
        .unwrap();
    assert_eq!(activity.client_addr, "127.0.0.1".parse().ok());
    assert_eq!(activity.database.as_deref(), Some(&*db.name));
    assert_eq!(activity.backend_type.as_deref(), Some("client backend"));
    assert_eq!(activity.state, Some(BackendState::Active));
    assert!(activity.backend_start <= activity.query_start);
}

#[test]
fn a_role_without_rights_sees_waits_and_no_details() {
    let db = Database::new();
    let role = format!("plain_{}", db.name);
    let mut observer = db.connect();
    observer
        .batch_execute(&format!("CREATE ROLE {role}; SET ROLE {role}"))
        .unwrap();
    let mut holder = holding(&db, "LOCK TABLE users");
    let waiting = Waiting::on(&db, "SELECT FROM users");
    let row = blocked(waiting.pid, &mut observer);
    assert_eq!(row.blocking_pid, pid(&mut holder));
    assert_eq!(row.lock.relation.unwrap().name, "users");
    let hidden = row.blocking_activity.unwrap();
    assert!(hidden.is_hidden());
    assert_eq!((hidden.query, hidden.state), (None, None));
    assert_eq!(hidden.database.as_deref(), Some(&*db.name));

    observer
        .batch_execute(&format!(
            "RESET ROLE; GRANT pg_read_all_stats TO {role}; SET ROLE {role}"
        ))
        .unwrap();
    let row = blocked(waiting.pid, &mut observer);
    assert!(!row.blocking_activity.unwrap().is_hidden());
    observer
        .batch_execute(&format!("RESET ROLE; DROP ROLE {role}"))
        .unwrap();
}

/// Returns the number of calls of `pg_blocking_pids`: the loops of the scan of its result.
fn calls_of_pg_blocking_pids(conn: &mut PgConnection) -> Option<i64> {
    // Diesel renders it, so this is the statement that users run.
    let sql = diesel::debug_query::<diesel::pg::Pg, _>(&BlockedPgLock::query()).to_string();
    let sql = sql.split(" -- binds").next().unwrap();
    #[derive(QueryableByName)]
    struct Line {
        #[diesel(sql_type = diesel::sql_types::Text, column_name = "QUERY PLAN")]
        line: String,
    }
    let explain = format!("EXPLAIN (ANALYZE, TIMING OFF, COSTS OFF) {sql}");
    let plan: Vec<Line> = diesel::sql_query(explain).load(conn).unwrap();
    let plan: Vec<String> = plan.into_iter().map(|line| line.line).collect();
    let scan = plan.iter().find(|line| line.contains(" on unnest pids"));
    let scan = scan.unwrap_or_else(|| panic!("{plan:#?}"));
    let loops = scan.split("loops=").nth(1)?.trim_end_matches(')');
    loops.parse().ok()
}

#[test]
fn pg_blocking_pids_is_called_once_per_waiting_session() {
    // A server of its own: others' waiters would be counted.
    let server = pglock_sandbox::Sandbox::start().unwrap();
    let url = server.url();
    let db = Database {
        url,
        name: "postgres".into(),
    };
    let mut observer = db.connect();
    observer
        .batch_execute("CREATE TABLE users (id int); SELECT pg_advisory_lock(i) FROM generate_series(1, 500) AS i")
        .unwrap();
    // Without a waiter it is not called, although 500 locks are held.
    assert_eq!(calls_of_pg_blocking_pids(&mut observer), None);
    let mut holder = holding(&db, "LOCK TABLE users");
    let waiting: Vec<_> = (0..7)
        .map(|_| Waiting::on(&db, "SELECT FROM users"))
        .collect();
    assert_eq!(calls_of_pg_blocking_pids(&mut observer), Some(7));
    holder.batch_execute("COMMIT").unwrap();
    for session in waiting {
        session.finish().unwrap();
    }
}
