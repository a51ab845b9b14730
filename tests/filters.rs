//! Filters on the lock views: alone, in any order, on every shape of query.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::dsl::{count_star, exists};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_pglock::dsl::{Advisory, Granted, On};
use diesel_pglock::prelude::*;
use diesel_pglock::schema::{blocking, pg_class, pg_locks};
use diesel_pglock::{BlockedPgLock, LockMode, LockType, PgLock, PgLockQuery, WaitGraph};

use crate::support::*;

/// Tables of a crate that joins them with the lock views.
mod workers {
    diesel::table! {
        workers (pid) { pid -> Integer, name -> Text, }
    }
    diesel::table! {
        other.users (id) { id -> Integer, }
    }
    diesel::table! {
        #[sql_name = "odd \"name\""]
        odd (id) { id -> Integer, }
    }
    diesel::table! {
        nowhere (id) { id -> Integer, }
    }
    diesel_pglock::allow_tables_to_appear_beside_locks!(workers);
}

#[derive(Identifiable)]
struct User {
    id: i32,
}

/// A holder of a table lock, and a waiter.
struct Scene {
    db: Database,
    holder: PgConnection,
    holder_pid: i32,
    waiting: Waiting,
    observer: PgConnection,
}

impl Scene {
    fn new() -> Self {
        let db = Database::new();
        let mut holder = db.connect();
        holder
            .batch_execute("SET application_name = 'holder'; BEGIN; LOCK TABLE users")
            .unwrap();
        Self {
            holder_pid: pid(&mut holder),
            holder,
            waiting: Waiting::on(&db, "SELECT FROM users"),
            observer: db.connect(),
            db,
        }
    }

    fn end(mut self) {
        self.holder.batch_execute("COMMIT").unwrap();
        self.waiting.finish().unwrap();
    }
}

fn pids(locks: Vec<PgLock>) -> Vec<Option<i32>> {
    locks.into_iter().map(|lock| lock.pid).collect()
}

#[test]
fn each_filter_keeps_what_it_names() {
    let mut scene = Scene::new();
    let (holder, waiter) = (Some(scene.holder_pid), Some(scene.waiting.pid));
    let conn = &mut scene.observer;
    let on_users = || PgLock::query().on::<users::table>();

    assert_eq!(pids(on_users().granted().load(conn).unwrap()), [holder]);
    assert_eq!(pids(on_users().waiting().load(conn).unwrap()), [waiter]);
    let of_waiter = on_users().pid(scene.waiting.pid).load(conn).unwrap();
    assert_eq!(pids(of_waiter), [waiter]);
    let of_both = on_users()
        .pids([scene.waiting.pid, scene.holder_pid])
        .order_by(pg_locks::granted)
        .load(conn);
    assert_eq!(pids(of_both.unwrap()), [waiter, holder]);
    let exclusive = on_users().mode(LockMode::AccessExclusive).load(conn);
    assert_eq!(pids(exclusive.unwrap()), [holder]);
    let of_application = on_users().application("holder").load(conn).unwrap();
    assert_eq!(pids(of_application), [holder]);
    let rows = on_users().lock_type(LockType::Tuple).load(conn).unwrap();
    assert_eq!(pids(rows), []);
    scene.end();
}

#[test]
fn a_table_is_found_by_schema_and_name() {
    let db = Database::new();
    let mut conn = db.connect();
    conn.batch_execute(
        r#"CREATE SCHEMA other; CREATE TABLE other.users (id int); CREATE TABLE "odd ""name""" (id int)"#,
    )
    .unwrap();
    conn.batch_execute(
        r#"BEGIN; LOCK TABLE other.users IN SHARE MODE; LOCK TABLE "odd ""name""" IN EXCLUSIVE MODE"#,
    )
    .unwrap();
    fn modes(query: On<PgLockQuery>, conn: &mut PgConnection) -> Vec<LockMode> {
        let locks: Vec<PgLock> = query.load(conn).unwrap();
        locks.into_iter().map(|lock| lock.mode).collect()
    }
    let all = PgLock::query;
    assert_eq!(modes(all().on::<users::table>(), &mut conn), []);
    assert_eq!(modes(all().on::<User>(), &mut conn), []);
    assert_eq!(modes(all().on_relation("users"), &mut conn), []);
    let share = [LockMode::Share];
    assert_eq!(modes(all().on::<workers::users::table>(), &mut conn), share);
    assert_eq!(modes(all().on_relation("other.users"), &mut conn), share);
    assert_eq!(modes(all().on_relation("OTHER.Users"), &mut conn), share);
    let odd = [LockMode::Exclusive];
    assert_eq!(modes(all().on::<workers::odd::table>(), &mut conn), odd);
    assert_eq!(
        modes(all().on_relation(r#""odd ""name""""#), &mut conn),
        odd
    );
    assert_eq!(modes(all().on::<workers::nowhere::table>(), &mut conn), []);
    assert_eq!(modes(all().on_relation("nowhere.at_all"), &mut conn), []);
    // Found along the search_path, as a query would.
    conn.batch_execute("SET LOCAL search_path = other").unwrap();
    assert_eq!(modes(all().on::<users::table>(), &mut conn), share);
}

#[test]
fn a_role_without_usage_on_a_schema_finds_its_tables() {
    let db = Database::new();
    let mut conn = PgConnection::establish(&db.role_url()).unwrap();
    db.running(
        r#"CREATE SCHEMA "Hidden"; CREATE TABLE "Hidden".users (id int);
           CREATE SCHEMA other; CREATE TABLE other."users.2" (id int)"#,
    );
    let _holder = db.running(r#"BEGIN; LOCK TABLE "Hidden".users, other."users.2""#);
    let mut locks = |name: &str| -> QueryResult<i64> {
        let locks = PgLock::query().on_relation(name).count();
        locks.get_result(&mut conn)
    };
    assert_eq!(locks(r#""Hidden".users"#), Ok(1));
    assert_eq!(locks(r#"OTHER."users.2""#), Ok(1));
    assert_eq!(locks("other.users"), Ok(0));
    assert_eq!(locks("hidden.users"), Ok(0));
    assert!(locks(r#"other."users"#).is_err(), "not a name");
}

#[test]
fn an_advisory_key_is_found_in_its_own_key_space_and_database() {
    let (here, there) = (Database::new(), Database::new());
    let (mut here, mut there) = (here.connect(), there.connect());
    let mut pair = there.advisory((0, 7)).acquire().unwrap();
    let _elsewhere = pair.advisory(7).acquire().unwrap();
    fn holders(query: Granted<Advisory<PgLockQuery>>, conn: &mut PgConnection) -> usize {
        query.load::<PgLock>(conn).unwrap().len()
    }
    let seven = || PgLock::query().advisory(7).granted();
    assert_eq!(holders(seven(), &mut here), 0);
    let mut held = here.advisory(7).acquire().unwrap();
    assert_eq!(holders(seven(), &mut held), 1);
}

#[test]
fn a_wait_is_filtered_by_its_length() {
    let mut scene = Scene::new();
    let conn = &mut scene.observer;
    let longer_than = |limit| {
        BlockedPgLock::query()
            .blocked_by(scene.holder_pid)
            .blocking_longer_than(limit)
            .waiting_longer_than(limit)
    };
    let count = |limit, conn: &mut PgConnection| -> i64 {
        longer_than(limit).count().get_result(conn).unwrap()
    };
    assert_eq!(count(Duration::from_secs(3600), conn), 0);
    assert_eq!(count(Duration::MAX, conn), 0);
    if server().version() >= 14 {
        wait_until("the wait is longer than 50 ms", || {
            count(Duration::from_millis(50), conn) == 1
        });
    } else {
        assert_eq!(count(Duration::ZERO, conn), 0);
    }
    scene.end();
}

#[test]
fn the_filter_on_this_database_excludes_others() {
    let scene = Scene::new();
    let other = Database::new();
    let mut elsewhere = other.connect();
    let of_holder = || PgLock::query().pid(scene.holder_pid).current_database();
    assert_eq!(
        pids(of_holder().load(&mut elsewhere).unwrap()),
        Vec::<Option<i32>>::new()
    );
    let mut observer = scene.db.connect();
    // A virtual transaction belongs to no database: that of its session counts.
    let locks: Vec<PgLock> = of_holder().load(&mut observer).unwrap();
    assert!(locks.iter().any(|it| it.lock_type == LockType::VirtualXid));
    assert!(locks.iter().any(|it| it.relation.is_some()));
    scene.end();
}

#[test]
fn the_filter_on_this_database_keeps_all_locks_of_its_prepared_transactions() {
    let (db, other) = (Database::new(), Database::new());
    let prepare = |db: &Database| {
        let update = "BEGIN; UPDATE users SET name = 'x'; PREPARE TRANSACTION";
        db.running(&format!("{update} '{}'", db.name));
    };
    prepare(&db);
    prepare(&other);
    let mut conn = db.connect();
    let held = PgLock::query().filter(pg_locks::pid.is_null());
    let types = |locks: Vec<PgLock>| locks.into_iter().map(|it| it.lock_type);
    let here: Vec<PgLock> = held.current_database().load(&mut conn).unwrap();
    assert!(
        here.iter()
            .all(|it| it.virtual_transaction == here[0].virtual_transaction)
    );
    let here: Vec<LockType> = types(here).collect();
    assert!(here.contains(&LockType::TransactionId), "{here:?}");
    assert!(here.contains(&LockType::Relation), "{here:?}");
    for db in [db, other] {
        db.running(&format!("ROLLBACK PREPARED '{}'", db.name));
    }
}

#[test]
fn a_speculative_insertion_belongs_to_the_database_of_its_session() {
    let (db, other) = (Database::new(), Database::new());
    let mut holder = db.running(HOLD_INSERTIONS);
    let inserting = [(); 2].map(|()| Waiting::on(&db, INSERTION));
    let here = |db: &Database| {
        let locks = PgLock::query().lock_type(LockType::SpecToken);
        let locks: Vec<PgLock> = locks.current_database().load(&mut db.connect()).unwrap();
        pids(locks).len()
    };
    assert_eq!((here(&db), here(&other)), (2, 0));
    holder
        .batch_execute("SELECT pg_advisory_unlock(77)")
        .unwrap();
    for inserting in inserting {
        inserting.finish().unwrap();
    }
}

#[test]
fn a_filtered_query_is_an_ordinary_diesel_query() {
    let mut scene = Scene::new();
    let conn = &mut scene.observer;

    // Counted, limited, grouped, with another selection, on the bare table.
    let waiting: i64 = PgLock::query()
        .waiting()
        .on::<User>()
        .count()
        .get_result(conn)
        .unwrap();
    assert_eq!(waiting, 1);
    let one = PgLock::query().on::<User>().limit(1).load::<PgLock>(conn);
    assert_eq!(one.unwrap().len(), 1);
    let by_name: Vec<(Option<String>, i64)> = PgLock::query()
        .on::<User>()
        .group_by(pg_class::relname)
        .select((pg_class::relname.nullable(), count_star()))
        .load(conn)
        .unwrap();
    assert_eq!(by_name, [(Some("users".into()), 2)]);
    let modes: Vec<String> = pg_locks::table
        .select(pg_locks::mode)
        .granted()
        .on::<User>()
        .load(conn)
        .unwrap();
    assert_eq!(modes, ["AccessExclusiveLock"]);

    // Boxed, before the filters and between them.
    let boxed: Vec<PgLock> = PgLock::query()
        .into_boxed()
        .granted()
        .on::<User>()
        .load(conn)
        .unwrap();
    assert_eq!(boxed.len(), 1);
    let boxed: Vec<BlockedPgLock> = BlockedPgLock::query()
        .on::<User>()
        .into_boxed()
        .blocked_by(scene.holder_pid)
        .load(conn)
        .unwrap();
    assert_eq!(boxed.len(), 1);
    assert_eq!(boxed[0].lock.pid, Some(scene.waiting.pid));
    let mut query = PgLock::query().into_boxed::<Pg>();
    for narrow in [true, false] {
        query = if narrow {
            query.waiting()
        } else {
            query.pids([scene.waiting.pid])
        };
    }
    assert_eq!(query.load::<PgLock>(conn).unwrap().len(), 1);

    // As a subquery, and together with a table of the user.
    let waiters = PgLock::query()
        .on::<User>()
        .waiting()
        .select(pg_locks::pid.assume_not_null());
    conn.batch_execute(
        "CREATE TEMP TABLE workers AS SELECT pid, state AS name FROM pg_stat_activity",
    )
    .unwrap();
    let found: Vec<i32> = workers::workers::table
        .filter(workers::workers::pid.eq_any(waiters))
        .select(workers::workers::pid)
        .load(conn)
        .unwrap();
    assert_eq!(found, [scene.waiting.pid]);
    let busy: bool = diesel::select(exists(PgLock::query().on::<User>().waiting()))
        .get_result(conn)
        .unwrap();
    assert!(busy);
    scene.end();
}

#[test]
fn a_table_of_the_user_joins_the_locks() {
    use workers::workers;

    let mut scene = Scene::new();
    let conn = &mut scene.observer;
    conn.batch_execute("CREATE TABLE workers (pid int, name text)")
        .unwrap();
    diesel::insert_into(workers::table)
        .values([
            (workers::pid.eq(scene.holder_pid), workers::name.eq("night")),
            (workers::pid.eq(scene.waiting.pid), workers::name.eq("day")),
        ])
        .execute(conn)
        .unwrap();
    let locks: Vec<(String, PgLock)> = PgLock::query()
        .on::<User>()
        .inner_join(workers::table.on(pg_locks::pid.eq(workers::pid.nullable())))
        .select((workers::name, PgLock::as_select()))
        .order_by(workers::name.desc())
        .load(conn)
        .unwrap();
    assert_eq!(locks[0].0, "night");
    assert_eq!(locks[0].1.pid, Some(scene.holder_pid));
    assert_eq!(locks[1].0, "day");
    let blockers: Vec<String> = BlockedPgLock::query()
        .on::<User>()
        .inner_join(workers::table.on(blocking::pid.eq(workers::pid)))
        .select(workers::name)
        .load(conn)
        .unwrap();
    assert_eq!(blockers, ["night"]);
    scene.end();
}

#[cfg(feature = "async")]
#[tokio::test]
async fn the_queries_run_on_async_connections_too() {
    use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};

    let scene = Scene::new();
    let mut conn = AsyncPgConnection::establish(&scene.db.url).await.unwrap();
    let (holder, waiter) = (scene.holder_pid, scene.waiting.pid);
    let task = tokio::spawn(async move {
        let query = BlockedPgLock::query().on::<User>().blocked_by(holder);
        let row: BlockedPgLock = RunQueryDsl::first(query, &mut conn).await?;
        let query = PgLock::query().into_boxed().pid(waiter).waiting();
        let lock: PgLock = RunQueryDsl::first(query, &mut conn).await?;
        QueryResult::Ok((row, lock))
    });
    let (row, lock) = task.await.unwrap().unwrap();
    assert_eq!(row.lock.pid, lock.pid);
    assert_eq!(row.lock.relation, lock.relation);
    assert_eq!(row.blocking_pid, holder);
    scene.end();
}

/// A wait for a row of `users`: the holder's statements, and the waiter's.
const ROW_WAITS: [(&str, &str); 5] = [
    (
        "UPDATE users SET name = 'x' WHERE id = 1",
        "UPDATE users SET name = 'y' WHERE id = 1",
    ),
    (
        "DELETE FROM users WHERE id = 1",
        "SELECT FROM users WHERE id = 1 FOR UPDATE",
    ),
    (
        "INSERT INTO users VALUES (7, 'x')",
        "INSERT INTO users VALUES (7, 'y')",
    ),
    // The other tables that one of the two has written do not confuse.
    (
        "INSERT INTO users VALUES (7, 'x'); UPDATE posts SET title = 'x'",
        "INSERT INTO posts VALUES (1); INSERT INTO users VALUES (7, 'y')",
    ),
    (
        "DELETE FROM users WHERE id = 1",
        "INSERT INTO comments VALUES (1)",
    ),
];

#[test]
fn a_wait_for_a_row_belongs_to_its_table() {
    for (holder_sql, waiter_sql) in ROW_WAITS {
        let db = Database::new();
        db.running("CREATE TABLE comments (user_id int REFERENCES users)");
        let mut holder = db.running(&format!("BEGIN; {holder_sql}"));
        let waiting = Waiting::on(&db, &format!("BEGIN; {waiter_sql}; ROLLBACK"));
        let mut conn = db.connect();
        let on_users: Vec<BlockedPgLock> = BlockedPgLock::query()
            .on::<users::table>()
            .load(&mut conn)
            .unwrap();
        assert_eq!(on_users.len(), 1, "{waiter_sql}");
        assert_eq!(on_users[0].lock.pid, Some(waiting.pid));
        assert_eq!(on_users[0].blocking_pid, pid(&mut holder));
        let on_posts = BlockedPgLock::query().on::<posts::table>();
        assert_eq!(on_posts.count().get_result::<i64>(&mut conn).unwrap(), 0);
        let waits: i64 = PgLock::query()
            .on::<users::table>()
            .waiting()
            .count()
            .get_result(&mut conn)
            .unwrap();
        assert_eq!(waits, 1, "{waiter_sql}");
        let graph = WaitGraph::load(&mut conn).unwrap();
        let wait = graph.node(waiting.pid).unwrap().wait.as_ref().unwrap();
        let target = wait.lock.target().to_string();
        assert!(
            target.ends_with("row of public.users") || target.ends_with("of public.users"),
            "{target}"
        );
        assert!(target.starts_with("transaction "), "{target}");
        holder.batch_execute("ROLLBACK").unwrap();
        waiting.finish().unwrap();
    }
}

#[test]
fn a_row_wait_whose_table_the_server_does_not_show_belongs_to_none() {
    let db = Database::new();
    let both = "UPDATE posts SET title = 'x'; INSERT INTO users VALUES (7, 'x')";
    let mut holder = db.running(&format!("BEGIN; {both}"));
    let waiting = Waiting::on(&db, &format!("BEGIN; {both}; ROLLBACK"));
    let mut conn = db.connect();
    let graph = WaitGraph::load(&mut conn).unwrap();
    let wait = graph.node(waiting.pid).unwrap().wait.as_ref().unwrap();
    assert_eq!(wait.lock.relation, None);
    holder.batch_execute("ROLLBACK").unwrap();
    waiting.finish().unwrap();
}
