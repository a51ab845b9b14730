//! Operators of other users in a schema of the `search_path` are never called.
//!
//! PostgreSQL prefers an operator with exactly matching types, in any schema, to a built-in
//! operator that must convert an argument. These tests create an operator for each pair of
//! types without a built-in one.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_migrations::MigrationHarness;
use diesel_pglock::prelude::*;
use diesel_pglock::{
    AdvisoryKey, BlockedPgLock, Error, LockMonitor, LockType, MIGRATIONS, PgActivity, PgLock,
    PreparedTransaction, PrioritizedHarness, Prioritizer, TableLockMode::*, WaitGraph,
};

use crate::monitored::{monitor_url, until_polled};
use crate::support::*;

const SHORT: Duration = Duration::from_millis(50);

diesel::table! {
    parent { id -> Integer, }
}

const OPERATORS: &str = r#"
    CREATE SEQUENCE calls;
    DO $$
    DECLARE
        types text[] := ARRAY['oid', 'int2', 'int4', 'int8', 'text', 'name', 'regclass', 'numeric', 'float8',
            'interval', 'timestamptz', '"char"', 'oid[]', 'int4[]', 'xid', 'bool'];
        l text; r text; op text; result text;
    BEGIN
        FOREACH l IN ARRAY types LOOP
            FOREACH r IN ARRAY types LOOP
                FOREACH result IN ARRAY ARRAY['bool', 'text', 'numeric'] LOOP
                    EXECUTE format('CREATE FUNCTION hostile_%1$s(l %2$s, r %3$s) RETURNS %1$s LANGUAGE plpgsql AS
                        $f$ BEGIN PERFORM nextval(''public.calls''); RAISE EXCEPTION ''hostile''; END $f$', result, l, r);
                END LOOP;
                FOREACH op IN ARRAY ARRAY['=', '<>', '<', '>', '<=', '>=', '||', '+', '-', '*', '/'] LOOP
                    CONTINUE WHEN EXISTS (SELECT FROM pg_operator
                        WHERE oprname = op AND oprleft = l::regtype AND oprright = r::regtype);
                    result := CASE WHEN op ~ '[=<>]' THEN 'bool' WHEN op = '||' THEN 'text' ELSE 'numeric' END;
                    EXECUTE format('CREATE OPERATOR %s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = hostile_%s)',
                        op, l, r, result);
                END LOOP;
            END LOOP;
        END LOOP;
    END $$
"#;

#[test]
fn operators_of_other_users_are_not_called() {
    let db = Database::new();
    let mut conn = db.connect();
    conn.run_pending_migrations(MIGRATIONS).unwrap();
    db.running(
        "CREATE TABLE parent (id int) PARTITION BY RANGE (id);
         CREATE TABLE child PARTITION OF parent FOR VALUES FROM (0) TO (10)",
    );
    db.running(OPERATORS);
    let role = PgConnection::establish(&db.role_url());

    locks(&db, &mut conn).unwrap();
    monitored(&db, &mut conn).unwrap();
    views(&db, &mut conn).unwrap();
    let hidden = "CREATE SCHEMA hidden; CREATE TABLE hidden.users (id int)";
    db.running(hidden);
    let locks = PgLock::query().on_relation("hidden.users").count();
    assert_eq!(locks.get_result::<i64>(&mut role.unwrap()), Ok(0));
    prioritized(&db, &mut conn).unwrap();

    let called = "SELECT count(*) FROM calls WHERE is_called";
    assert_eq!(count(&mut conn, called), 0);
}

fn locks(db: &Database, conn: &mut PgConnection) -> Result<(), Error> {
    let _holder =
        db.running("SELECT pg_advisory_lock(7), pg_advisory_lock(7, 7); BEGIN; LOCK TABLE child");
    for key in [AdvisoryKey::new(7), AdvisoryKey::pair(7, 7)] {
        // The own lock could be mistaken for the holder's.
        let mut guard = conn.advisory(8).acquire()?;
        assert!(guard.advisory(key).timeout(SHORT).try_acquire()?.is_none());
        let refused = guard.advisory(key).timeout(SHORT).acquire().unwrap_err();
        let Error::NotAcquired { holders, .. } = refused else {
            return Err(refused);
        };
        assert_eq!(holders.len(), 1);
        guard.release()?;
    }
    conn.transaction(|conn| {
        assert!(!conn.advisory(7).xact().timeout(SHORT).try_acquire()?);
        let lock = conn.lock_table::<parent::table>(Share).timeout(SHORT);
        let refused = lock.acquire().unwrap_err();
        let Error::NotAcquired { holders, .. } = refused else {
            return Err(refused);
        };
        assert!(!holders.is_empty());
        conn.lock_table::<parent::table>(Share)
            .only()
            .timeout(SHORT)
            .acquire()?;
        conn.lock_table::<users::table>(Share).acquire()
    })?;
    conn.with_lock_timeout(SHORT, |conn| Ok(conn.batch_execute("SELECT 1")?))
}

fn monitored(db: &Database, conn: &mut PgConnection) -> Result<(), Error> {
    let monitor = LockMonitor::new(monitor_url(db)).interval(Duration::ZERO);
    let lock = conn.advisory(7).monitored(&monitor);
    let ran = lock.run(|conn, held| {
        until_polled(db);
        conn.batch_execute("SELECT pg_advisory_unlock_all()")?;
        wait_until("the lock is lost", || held.is_lost());
        Ok::<_, Error>(())
    });
    assert!(matches!(ran, Err(Error::NotHeld(_))), "{ran:?}");
    Ok(())
}

fn views(db: &Database, conn: &mut PgConnection) -> Result<(), Error> {
    let mut holder = db.running("BEGIN; LOCK TABLE users; SELECT pg_advisory_xact_lock(9)");
    let waiting = Waiting::on(db, "SELECT FROM users");
    let all: Vec<PgLock> = PgLock::query().current_database().load(conn)?;
    assert!(all.len() > 2);
    let minute = Duration::from_secs(60);
    let none: Vec<PgLock> = PgLock::query()
        .on::<users::table>()
        .on_relation("public.users")
        .lock_type(LockType::Relation)
        .application("nobody")
        .waiting_longer_than(minute)
        .load(conn)?;
    assert!(none.is_empty());
    let held: Vec<PgLock> = PgLock::query().advisory(9).granted().load(conn)?;
    assert_eq!(held.len(), 1);
    let blocked = BlockedPgLock::query().blocked_by(pid(&mut holder));
    let blocked: Vec<BlockedPgLock> = blocked.load(conn)?;
    assert_eq!(blocked.len(), 1);
    let graph = WaitGraph::load(conn)?;
    assert!(graph.node(waiting.pid).is_some());
    let _: Vec<PgActivity> = PgActivity::query().load(conn)?;
    let _: Vec<PreparedTransaction> = PreparedTransaction::query().load(conn)?;
    let signals = BlockedPgLock::query()
        .blocked_by(pid(&mut holder))
        .cancel_blocking_activity(conn)?;
    assert_eq!(signals.len(), 1);
    holder.batch_execute("ROLLBACK")?;
    Ok(waiting.finish()?)
}

fn prioritized(db: &Database, conn: &mut PgConnection) -> Result<(), Error> {
    let _holder = db.running("SELECT pg_advisory_lock(1); BEGIN; LOCK TABLE users");
    let prioritizer = Prioritizer::new(db.url.clone()).grace(SHORT).audit(true);
    conn.prioritize(&prioritizer, |conn| {
        conn.batch_execute("ALTER TABLE users ADD COLUMN age int")
    })?;
    assert!(prioritizer.report().errors.is_empty());
    let logged = "SELECT count(*) FROM pglock.signal_log
                  WHERE held @> ARRAY['ExclusiveLock on advisory 0, 1, 1', 'AccessExclusiveLock on public.users']";
    assert_eq!(count(conn, logged), 1);
    let mut harness = PrioritizedHarness::new(conn, prioritizer);
    assert!(harness.run_pending_migrations(MIGRATIONS)?.is_empty());
    Ok(())
}
