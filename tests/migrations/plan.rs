//! Plans of pending migrations.

use diesel_pglock::{MigrationPlan, PlannedMigration, PlannedStatement};

use super::differential::{Random, directory, drop_databases, left_behind};
use super::*;

/// The applied migration of most tests.
const TABLES: &str = "CREATE TABLE orders (id int PRIMARY KEY, note text);
    CREATE TABLE lines (id serial PRIMARY KEY, order_id int, amount int NOT NULL DEFAULT 1);
    INSERT INTO lines (order_id) SELECT generate_series(1, 1000)";

/// The tables that the comparison of databases names.
const NAMED: &str = "CREATE TABLE users (); CREATE TABLE ledger (i int)";

/// An empty database of the shared server.
fn empty() -> Database {
    let db = Database::new();
    db.running("DROP TABLE users, posts");
    db
}

/// A real database, an empty scratch database, and migrations of which the first is applied.
struct Scene {
    real: Database,
    scratch: Database,
    migrations: Migrations,
}

impl Scene {
    fn new(pending: &[&str]) -> Self {
        let (real, scratch) = (empty(), empty());
        let migrations = Migrations::new(&real, &[&[TABLES], pending].concat());
        let mut conn = real.connect();
        let mut harness = PrioritizedHarness::new(&mut conn, patient(&real));
        harness.run_next_migration(migrations.source()).unwrap();
        Self {
            real,
            scratch,
            migrations,
        }
    }

    fn plan(&self) -> MigrationPlan {
        let mut conn = self.real.connect();
        self.plan_on(&mut conn).unwrap()
    }

    fn plan_on(&self, conn: &mut PgConnection) -> Result<MigrationPlan, Error> {
        let mut harness = PrioritizedHarness::new(conn, patient(&self.real));
        Ok(harness.plan(self.migrations.source(), &self.scratch.url)?)
    }
}

/// Returns the locks, rewrites and indexes of a statement as text, without sizes.
fn effects(statement: &PlannedStatement) -> Vec<String> {
    let locks = statement.locks.iter();
    let locks = locks.map(|lock| format!("{} {}", lock.mode, lock.relation.name));
    let rewrites = statement.rewrites.iter();
    let rewrites = rewrites.map(|table| format!("rewrites {}", table.name));
    let indexes = statement.indexes.iter().map(|index| {
        let done = if index.rebuilt { "rebuilds" } else { "builds" };
        format!("{done} {} of {}", index.name, index.table.name)
    });
    locks.chain(rewrites).chain(indexes).collect()
}

#[track_caller]
fn assert_effects(migration: &PlannedMigration, expected: &[&[&str]]) {
    let effects: Vec<_> = migration.statements.iter().map(effects).collect();
    assert_eq!(effects, expected, "{migration}");
    assert_eq!(migration.not_planned, None, "{migration}");
}

#[test]
fn each_statement_shows_its_locks_rewrites_and_indexes() {
    let scene = Scene::new(&[
        "-- one\nALTER TABLE orders ADD COLUMN age int;\nCREATE INDEX note ON orders (note);
         ALTER TABLE orders ALTER COLUMN id TYPE bigint; UPDATE lines SET amount = 2",
        "ALTER TABLE lines ADD FOREIGN KEY (id) REFERENCES orders NOT VALID; TRUNCATE lines",
        "REINDEX INDEX lines_pkey; SELECT count(*) FROM orders; DROP INDEX note",
    ]);
    let plan = scene.plan();
    assert_effects(
        &plan.migrations[0],
        &[
            &["ACCESS EXCLUSIVE orders"],
            &["builds note of orders"],
            &["rewrites orders"],
            &["ROW EXCLUSIVE lines"],
        ],
    );
    let lines: Vec<_> = plan.migrations[0]
        .statements
        .iter()
        .map(|it| it.line)
        .collect();
    assert_eq!(lines, [2, 3, 4, 4]);
    assert_effects(
        &plan.migrations[1],
        &[
            &["SHARE ROW EXCLUSIVE orders", "SHARE ROW EXCLUSIVE lines"],
            &["ACCESS EXCLUSIVE lines"],
        ],
    );
    assert_effects(
        &plan.migrations[2],
        &[
            &[
                "SHARE lines",
                "ACCESS EXCLUSIVE lines_pkey",
                "rebuilds lines_pkey of lines",
            ],
            &["ACCESS SHARE orders"],
            &["ACCESS EXCLUSIVE orders"],
        ],
    );
    assert_eq!(plan.not_planned().count(), 0);
}

#[test]
fn tables_that_pending_migrations_make_are_left_out() {
    let scene = Scene::new(&[
        "CREATE TABLE items (id int PRIMARY KEY); CREATE INDEX ON items (id); DROP TABLE items",
        "CREATE TABLE goods (id int); ALTER TABLE orders RENAME TO sales",
        "ALTER TABLE goods ALTER COLUMN id TYPE bigint; ALTER TABLE sales ADD COLUMN x int",
    ]);
    let plan = scene.plan();
    assert_effects(&plan.migrations[0], &[&[], &[], &[]]);
    assert_effects(&plan.migrations[1], &[&[], &["ACCESS EXCLUSIVE orders"]]);
    // The real table still has its first name.
    assert_effects(&plan.migrations[2], &[&[], &["ACCESS EXCLUSIVE orders"]]);
}

#[test]
fn statements_outside_a_transaction_show_their_locks_too() {
    let scene = Scene::new(&[
        "-- concurrently\nCREATE INDEX CONCURRENTLY note ON orders (note)",
        "-- concurrently\nVACUUM lines",
        "-- concurrently\nDROP INDEX CONCURRENTLY note;",
        "-- concurrently\nALTER TABLE orders ADD COLUMN a int",
        "-- concurrently\nALTER TABLE orders ADD COLUMN b int; UPDATE lines SET amount = 3",
        "-- concurrently\nVACUUM FULL lines",
    ]);
    let plan = scene.plan();
    let update = "SHARE UPDATE EXCLUSIVE orders";
    assert!(!plan.migrations[0].run_in_transaction);
    assert_effects(&plan.migrations[0], &[&[update, "builds note of orders"]]);
    assert_effects(&plan.migrations[1], &[&["SHARE UPDATE EXCLUSIVE lines"]]);
    assert_effects(&plan.migrations[2], &[&[update]]);
    assert_effects(&plan.migrations[3], &[&["ACCESS EXCLUSIVE orders"]]);
    let both: &[&[&str]] = &[&["ACCESS EXCLUSIVE orders"], &["ROW EXCLUSIVE lines"]];
    assert_effects(&plan.migrations[4], both);
    assert_effects(
        &plan.migrations[5],
        &[&["ACCESS EXCLUSIVE lines", "rewrites lines"]],
    );
}

#[test]
fn the_plan_shows_sizes_holders_and_the_oldest_transaction() {
    let scene = Scene::new(&["ALTER TABLE lines ADD COLUMN note text"]);
    scene.real.running("ANALYZE lines");
    let mut holder = scene.real.connect();
    holder
        .batch_execute("SET application_name = 'console'; BEGIN; SELECT FROM lines")
        .unwrap();
    let plan = scene.plan();
    let lock = &plan.migrations[0].statements[0].locks[0];
    assert_eq!(lock.relation.rows, Some(1000));
    assert!(
        lock.relation.exists && lock.relation.size.unwrap() > 40_000,
        "{lock}"
    );
    let holders: Vec<_> = lock.holders.iter().map(|it| it.pid).collect();
    assert_eq!(holders, [Some(pid(&mut holder))]);
    assert_eq!(
        plan.oldest_transaction.as_ref().unwrap().pid,
        pid(&mut holder)
    );
    let text = plan.to_string();
    assert!(
        text.contains("  line 1: ALTER TABLE lines ADD COLUMN note text\n"),
        "{text}"
    );
    assert!(
        text.contains("which blocks reads and writes; held by pid "),
        "{text}"
    );
    assert!(text.contains("(application `console`"), "{text}");
    assert!(text.contains("about 1000 rows"), "{text}");
    assert!(text.contains("\noldest transaction: pid "), "{text}");
}

#[test]
fn the_real_database_is_read_only() {
    let scene = Scene::new(&["ALTER TABLE lines ADD COLUMN note text; DROP TABLE orders"]);
    scene.real.running(NAMED);
    let before = left_behind(&scene.real);
    let mut conn = scene.real.running("SET default_transaction_read_only = on");
    scene.plan_on(&mut conn).unwrap();
    assert_eq!(left_behind(&scene.real), before);
    assert_eq!(advisory_locks(&scene.real), 0);
    assert_eq!(setting(&mut conn, "lock_timeout"), "0");
}

#[test]
fn a_role_that_reads_the_history_can_plan() {
    let scene = Scene::new(&["ALTER TABLE lines ADD COLUMN note text"]);
    let role = format!("{}_reader", scene.real.name);
    let grant =
        format!("CREATE ROLE {role} LOGIN; GRANT SELECT ON __diesel_schema_migrations TO {role}");
    scene.real.running(&grant);
    let _holder = scene.real.running("BEGIN; LOCK TABLE lines IN SHARE MODE");
    let url = scene.real.url.replacen("postgres@", &format!("{role}@"), 1);
    let mut conn = PgConnection::establish(&url).unwrap();
    let plan = scene.plan_on(&mut conn).unwrap();
    let lock = &plan.migrations[0].statements[0].locks[0];
    assert_eq!(lock.holders.len(), 1);
    assert!(lock.relation.size.unwrap() > 40_000, "{lock}");
}

#[test]
fn the_real_database_is_not_waited_for_and_not_locked() {
    let scene = Scene::new(&["ALTER TABLE lines ADD COLUMN note text"]);
    scene.real.running("ANALYZE lines");
    let mut holder = scene.real.running("BEGIN; LOCK TABLE lines, orders");
    let plan = scene.plan();
    let lock = &plan.migrations[0].statements[0].locks[0];
    assert_eq!(lock.holders[0].pid, Some(pid(&mut holder)));
    assert!(lock.relation.size.unwrap() > 40_000, "an estimate: {lock}");
}

#[test]
fn a_plan_may_be_made_inside_a_transaction() {
    let scene = Scene::new(&["ALTER TABLE lines ADD COLUMN note text"]);
    let mut conn = scene.real.connect();
    let planned = conn.transaction(|conn| {
        let planned = scene.plan_on(conn)?;
        assert_eq!(setting(conn, "lock_timeout"), "0");
        let own = "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation = 'lines'::regclass";
        assert_eq!(count(conn, own), 0);
        Ok::<_, Error>(planned)
    });
    assert_eq!(planned.unwrap().migrations.len(), 1);
}

#[test]
fn a_database_in_use_is_no_scratch_database() {
    let scene = Scene::new(&["ALTER TABLE lines ADD COLUMN note text"]);
    scene.real.running(NAMED);
    let other = Database::new();
    let cases = [
        (&scene.real, "is the database that is planned for"),
        (&other, "it has the table `public.users`"),
    ];
    for (database, reason) in cases {
        let before = left_behind(&scene.real);
        let mut conn = scene.real.connect();
        let mut harness = PrioritizedHarness::new(&mut conn, patient(&scene.real));
        let plan = harness.plan(scene.migrations.source(), &database.url);
        let error = Error::from(plan.unwrap_err());
        assert!(
            matches!(&error, Error::Scratch(why) if why.contains(reason)),
            "{error}"
        );
        assert_eq!(left_behind(&scene.real), before);
    }
    let mut conn = scene.real.connect();
    let mut harness = PrioritizedHarness::new(&mut conn, patient(&scene.real));
    let nowhere = "postgres://x:secret@127.0.0.1:1/x?connect_timeout=2";
    let plan = harness.plan(scene.migrations.source(), &nowhere);
    let error = Error::from(plan.unwrap_err()).to_string();
    assert!(
        error.starts_with("the scratch database cannot be used: "),
        "{error}"
    );
    assert!(!error.contains("secret"), "{error}");
}

#[test]
fn a_migration_that_fails_there_is_not_planned_and_the_next_is() {
    let scene = Scene::new(&[
        "CREATE INDEX ON orders (note);\nCREATE EXTENSION nonsense; SELECT 1",
        "ALTER TABLE lines ADD COLUMN note text",
        "COPY lines FROM STDIN;\n1\n\\.\n",
        "-- concurrently\nCREATE INDEX CONCURRENTLY ON nothing (note)",
    ]);
    let plan = scene.plan();
    let failed = plan.migrations[0].not_planned.as_ref().unwrap();
    assert_eq!(failed.line, Some(2));
    assert_eq!(failed.sql.as_deref(), Some("CREATE EXTENSION nonsense"));
    assert!(failed.error.contains("nonsense"), "{failed}");
    assert_eq!(plan.migrations[0].statements.len(), 1);
    assert_effects(&plan.migrations[1], &[&["ACCESS EXCLUSIVE lines"]]);
    let failed = plan.migrations[2].not_planned.as_ref().unwrap();
    assert!(
        failed.error.contains("`COPY` in line 1 needs a client"),
        "{failed}"
    );
    let failed = plan.migrations[3].not_planned.as_ref().unwrap();
    assert!(
        failed.error.contains("\"nothing\" does not exist"),
        "{failed}"
    );
    assert_eq!(plan.not_planned().count(), 3);
}

#[test]
fn an_applied_migration_that_fails_there_is_reported() {
    let scene = Scene::new(&[
        "ALTER TABLE users ADD COLUMN age int",
        "ALTER TABLE lines ADD COLUMN note text",
    ]);
    let mut conn = scene.real.running("CREATE TABLE users ()");
    let mut harness = PrioritizedHarness::new(&mut conn, patient(&scene.real));
    harness
        .run_next_migration(scene.migrations.source())
        .unwrap();
    let plan = scene.plan();
    assert_eq!(plan.not_applied.len(), 1, "{plan}");
    assert!(
        plan.not_applied[0]
            .error
            .contains("\"users\" does not exist"),
        "{plan}"
    );
    assert_effects(&plan.migrations[0], &[&["ACCESS EXCLUSIVE lines"]]);
}

#[test]
fn a_text_that_cannot_be_split_is_run_as_a_whole() {
    let scene = Scene::new(&[
        "SET standard_conforming_strings = on; ALTER TABLE lines ADD x text DEFAULT '\\'; DROP TABLE orders",
    ]);
    let plan = scene.plan();
    let whole = [&["ACCESS EXCLUSIVE orders", "ACCESS EXCLUSIVE lines"][..]];
    assert_effects(&plan.migrations[0], &whole);
    let caveat = plan.migrations[0].statements[0].caveat.as_ref().unwrap();
    assert!(caveat.starts_with("it was run as a whole: "), "{caveat}");
}

#[test]
fn the_trace_does_not_disturb_a_migration() {
    let scene = Scene::new(&[
        "SET search_path = public; LOCK TABLE orders; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE;
         SELECT 1 / (current_setting('transaction_isolation') = 'serializable')::int",
        "SET statement_timeout = '900ms'; SET client_encoding = 'LATIN1'; CREATE SCHEMA empty; SET search_path = empty;
         ALTER TABLE public.lines ADD COLUMN a int; DISCARD PLANS; DEALLOCATE ALL; RESET statement_timeout",
        "COMMIT; BEGIN; ALTER TABLE public.orders ADD COLUMN b int",
    ]);
    let plan = scene.plan();
    assert_eq!(plan.not_planned().count(), 0, "{plan}");
    let exclusive = "ACCESS EXCLUSIVE orders";
    assert_effects(&plan.migrations[0], &[&[], &[exclusive], &[], &[]]);
    assert_effects(&plan.migrations[2], &[&[], &[], &[exclusive]]);
}

#[test]
fn the_locks_that_come_first_are_planned() {
    let scene = Scene::new(&["ALTER TABLE orders ADD COLUMN age int"]);
    let mut conn = scene.real.connect();
    let mut harness = PrioritizedHarness::new(&mut conn, patient(&scene.real))
        .lock_first_named(["lines"], TableLockMode::Share);
    let plan = harness
        .plan(scene.migrations.source(), &scene.scratch.url)
        .unwrap();
    assert_effects(
        &plan.migrations[0],
        &[&["SHARE lines"], &["ACCESS EXCLUSIVE orders"]],
    );
    let caveat = plan.migrations[0].statements[0].caveat.as_deref();
    assert_eq!(caveat, Some("it is locked first"));
}

#[test]
fn without_pending_migrations_the_scratch_database_is_not_used() {
    let scene = Scene::new(&[]);
    let mut conn = scene.real.connect();
    let mut harness = PrioritizedHarness::new(&mut conn, patient(&scene.real));
    let plan = harness
        .plan(scene.migrations.source(), &"nonsense")
        .unwrap();
    assert_eq!(plan.to_string().lines().next(), Some("nothing to run"));
}

/// A migration in Rust.
struct Code;

impl MigrationSource<Pg> for Code {
    fn migrations(&self) -> diesel::migration::Result<Vec<Box<dyn Migration<Pg>>>> {
        Ok(vec![Box::new(Code)])
    }
}

impl Migration<Pg> for Code {
    fn run(&self, conn: &mut dyn BoxableConnection<Pg>) -> diesel::migration::Result<()> {
        conn.batch_execute("CREATE INDEX ON orders (note)")?;
        let conn = conn.downcast_mut::<PgConnection>().expect("the connection");
        diesel::sql_query("ALTER TABLE orders ADD COLUMN age int").execute(conn)?;
        Ok(())
    }

    fn revert(&self, _: &mut dyn BoxableConnection<Pg>) -> diesel::migration::Result<()> {
        unreachable!("a plan reverts nothing")
    }

    fn metadata(&self) -> &dyn MigrationMetadata {
        &Code
    }

    fn name(&self) -> &dyn MigrationName {
        &Code
    }
}

impl MigrationMetadata for Code {}

impl MigrationName for Code {
    fn version(&self) -> diesel::migration::MigrationVersion<'_> {
        "2026".into()
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("2026_code")
    }
}

/// A source with all migrations of two others.
struct Both<A, B>(A, B);

impl<A: MigrationSource<Pg>, B: MigrationSource<Pg>> MigrationSource<Pg> for Both<A, B> {
    fn migrations(&self) -> diesel::migration::Result<Vec<Box<dyn Migration<Pg>>>> {
        let (mut all, more) = (self.0.migrations()?, self.1.migrations()?);
        all.extend(more);
        Ok(all)
    }
}

#[test]
fn the_code_of_a_rust_migration_is_planned_too() {
    let scene = Scene::new(&[]);
    let mut conn = scene.real.connect();
    let mut harness = PrioritizedHarness::new(&mut conn, patient(&scene.real));
    let source = Both(scene.migrations.source(), Code);
    let plan = harness.plan(source, &scene.scratch.url).unwrap();
    // The version of the code is the lowest.
    let code = plan
        .migrations
        .iter()
        .find(|it| it.name == "2026_code")
        .unwrap();
    assert_effects(
        code,
        &[
            &["SHARE orders", "builds orders_note_idx of orders"],
            &["ACCESS EXCLUSIVE orders"],
        ],
    );
}

/// The tables that directories at random expect.
const RANDOM: &str = "CREATE TABLE users (id serial PRIMARY KEY, name text NOT NULL);
    CREATE TABLE posts (id serial PRIMARY KEY, user_id int, title text);
    CREATE TABLE ledger (i int)";

/// By hand: `PGLOCK_PLANS=300`; `PGLOCK_SEED` is the first seed.
#[test]
fn directories_at_random_leave_in_the_scratch_database_what_a_run_leaves() {
    let variable = |name| {
        std::env::var(name)
            .ok()
            .map(|it| it.parse::<u64>().unwrap())
    };
    let first = variable("PGLOCK_SEED").unwrap_or(1);
    let plans = variable("PGLOCK_PLANS").unwrap_or(8);
    let mut whole = 0;
    for seed in first..first + plans {
        whole += u64::from(compare_plan_with_run(seed * 6151));
    }
    assert!(whole * 5 > plans, "{whole} of {plans} ran to the end");
}

/// Returns true if all migrations succeeded.
fn compare_plan_with_run(seed: u64) -> bool {
    let mut random = Random(seed);
    for _ in 0..8 {
        random.below(2);
    }
    let texts = directory(&mut random);
    let ups = texts.iter().map(|(up, _)| &**up);
    let ups: Vec<&str> = std::iter::once(RANDOM).chain(ups).collect();
    let dbs = [empty(), empty()];
    let migrations = Migrations::new(&dbs[0], &ups);
    let mut conn = dbs[0].connect();
    let mut harness = PrioritizedHarness::new(&mut conn, patient(&dbs[0])).lock_timeout(LONG);
    let plan = harness.plan(migrations.source(), &dbs[1].url).unwrap();
    let ran = harness
        .run_pending_migrations(migrations.source())
        .map(|it| it.len());
    let planned = plan
        .migrations
        .iter()
        .take_while(|it| it.not_planned.is_none())
        .count();
    let failed = harness
        .report()
        .migrations
        .iter()
        .filter(|it| it.succeeded)
        .count();
    assert_eq!(planned, failed, "seed {seed}: {ups:#?}\n{plan}\n{ran:?}");
    if ran.is_ok() {
        let [run, scratch] = dbs.each_ref().map(left_behind);
        assert_eq!(scratch, run, "seed {seed}: {ups:#?}\n{plan}");
    }
    drop(harness);
    drop_databases(&dbs);
    ran_to_the_end(&plan)
}

fn ran_to_the_end(plan: &MigrationPlan) -> bool {
    plan.not_planned().next().is_none()
}
