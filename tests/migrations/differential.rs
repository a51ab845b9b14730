//! Directories at random: the harness leaves what Diesel's own harness leaves.

use std::sync::atomic::{AtomicBool, Ordering};

use diesel::sql_types::{Array, Text};

use super::*;

/// A small generator of numbers: a failure is repeated with the same seed.
pub(super) struct Random(pub(super) u64);

impl Random {
    /// Returns a number below `limit`.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    fn one_of<'s>(&mut self, texts: &[&'s str]) -> &'s str {
        texts[self.below(texts.len())]
    }
}

/// Statements that may be part of a migration; `#` is a number of its own.
const STATEMENTS: &[&str] = &[
    "CREATE TABLE t# (id serial PRIMARY KEY, name text NOT NULL DEFAULT 'x')",
    "CREATE TABLE p# (id int) PARTITION BY RANGE (id); CREATE TABLE p#_1 PARTITION OF p# FOR VALUES FROM (1) TO (9)",
    "ALTER TABLE public.users ADD COLUMN c# int DEFAULT 1",
    "ALTER TABLE public.posts ALTER COLUMN user_id TYPE bigint",
    "ALTER TABLE public.users ADD CONSTRAINT check# CHECK (id > 0)",
    "CREATE INDEX i# ON public.posts (title)",
    "CREATE VIEW v# AS SELECT id FROM public.users",
    "CREATE MATERIALIZED VIEW m# AS SELECT id FROM public.users",
    "CREATE TYPE e# AS ENUM ('a', 'b')",
    "CREATE SEQUENCE q#",
    "CREATE FUNCTION f#() RETURNS int LANGUAGE sql AS $f$ SELECT 1; $f$",
    "CREATE FUNCTION g#() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; \
     CREATE TRIGGER g# BEFORE INSERT ON public.users FOR EACH ROW EXECUTE FUNCTION g#()",
    "COMMENT ON TABLE public.users IS 'number #; still the same text'",
    "GRANT SELECT ON public.users TO PUBLIC",
    "LOCK TABLE public.users",
    "DO $$ BEGIN PERFORM 1; END $$",
    "DROP TABLE IF EXISTS public.t1, public.t2",
    "TRUNCATE public.posts",
    "INSERT INTO public.ledger VALUES (#)",
    "INSERT INTO public.ledger VALUES (#)",
    "UPDATE public.ledger SET i = i + 1000",
    // The session.
    "CREATE SCHEMA s#; SET search_path = s#, public",
    "SET search_path = public",
    "SET LOCAL search_path = pg_catalog",
    "SET ROLE pglock_differential",
    "RESET ROLE",
    "RESET ALL",
    "SET client_encoding = 'LATIN1'",
    "SET lock_timeout = '9s'",
    "SET statement_timeout = '9s'",
    "SET default_transaction_isolation = 'serializable'",
    "SET session_replication_role = replica",
    "SET standard_conforming_strings = off",
    "SET extra_float_digits = 0",
    "PREPARE s# AS SELECT 1",
    "DEALLOCATE ALL",
    "SELECT pg_advisory_unlock_all()",
    "SELECT set_config('application_name', 'migration #', false)",
    // The transaction.
    "COMMIT; BEGIN",
    "ROLLBACK; BEGIN",
    "COMMIT",
    "SAVEPOINT mine",
    "COMMIT AND CHAIN",
    // Errors.
    "SELECT 1 / 0",
    "CREATE TABLE public.users ()",
    "INSERT INTO public.ledger VALUES ('nonsense')",
    "nonsense",
];

const OUTSIDE: &[&str] = &[
    "CREATE INDEX CONCURRENTLY ci# ON public.users (name)",
    "CREATE INDEX CONCURRENTLY ci# ON public.users (nothing)",
    "DROP INDEX CONCURRENTLY IF EXISTS public.i1",
    "VACUUM public.users",
    "DISCARD ALL",
    "DEALLOCATE ALL",
    "CREATE TABLE o# (id int); INSERT INTO public.ledger VALUES (#)",
    "INSERT INTO public.ledger VALUES (#); SELECT 1 / 0",
    "BEGIN; INSERT INTO public.ledger VALUES (#); COMMIT",
    "SET search_path = public; INSERT INTO public.ledger VALUES (#)",
];

const DOWNS: &[&str] = &[
    "SELECT 1",
    "DROP TABLE IF EXISTS public.t1",
    "INSERT INTO public.ledger VALUES (-#)",
    "SELECT 1 / 0",
    "COMMIT; BEGIN; INSERT INTO public.ledger VALUES (-#)",
];

/// The texts of a directory: each `up.sql` and `down.sql`.
pub(super) fn directory(random: &mut Random) -> Vec<(String, String)> {
    let mut number = 0;
    let mut numbered = |text: &str| {
        number += 1;
        text.replace('#', &number.to_string())
    };
    let migrations = 2 + random.below(5);
    let texts = (0..migrations).map(|_| {
        let up = if random.below(5) == 0 {
            format!("-- concurrently\n{}", numbered(random.one_of(OUTSIDE)))
        } else {
            let first = match random.below(12) {
                0 => "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE;\n",
                _ => "",
            };
            let statements = 1 + random.below(4);
            let statements = (0..statements).map(|_| numbered(random.one_of(STATEMENTS)));
            first.to_owned() + &statements.collect::<Vec<_>>().join(";\n")
        };
        (up, numbered(random.one_of(DOWNS)))
    });
    texts.collect()
}

/// Lists the catalogs, the rows of the ledger, and each history.
const LEFT: &str = "SELECT coalesce(array_agg(line ORDER BY line), '{}') FROM (
    SELECT format('class %s.%s %s of %s, %s', n.nspname, c.relname, c.relkind, pg_get_userbyid(c.relowner), c.relacl) AS line
      FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE n.nspname !~ '^(pg_|information_schema)'
    UNION ALL SELECT format('column %s %s %s %s', a.attrelid::regclass, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull)
      FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace
      WHERE n.nspname !~ '^(pg_|information_schema)' AND a.attnum > 0 AND c.relkind <> 'i'
    UNION ALL SELECT format('index %s %s', pg_get_indexdef(i.indexrelid), i.indisvalid)
      FROM pg_index i JOIN pg_class c ON c.oid = indexrelid JOIN pg_namespace n ON n.oid = relnamespace
      WHERE n.nspname !~ '^(pg_|information_schema)'
    UNION ALL SELECT format('constraint %s on %s: %s', conname, conrelid::regclass, pg_get_constraintdef(oid))
      FROM pg_constraint WHERE connamespace::regnamespace::text !~ '^(pg_|information_schema)'
    UNION ALL SELECT format('function %s %s', p.oid::regprocedure, prosrc)
      FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE n.nspname !~ '^(pg_|information_schema)'
    UNION ALL SELECT format('label %s %s', enumtypid::regtype, enumlabel) FROM pg_enum
    UNION ALL SELECT format('trigger %s', pg_get_triggerdef(oid)) FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT format('comment %s', description) FROM pg_description WHERE objoid = 'public.users'::regclass
    UNION ALL SELECT format('ledger %s', i) FROM public.ledger) AS lines";

const HISTORIES: &str = "SELECT coalesce(array_agg(c.oid::regclass::text ORDER BY 1), '{}')
    FROM pg_class c WHERE relname = '__diesel_schema_migrations' AND relkind = 'r'";

fn texts(conn: &mut PgConnection, query: &str) -> Vec<String> {
    let texts = diesel::dsl::sql::<Array<Text>>(&format!("({query})"));
    let read = diesel::select(texts).get_result(conn);
    read.unwrap_or_else(|error| panic!("{error}\n{}", sessions().join("\n")))
}

/// Lists the sessions of the server, with their blockers and locks.
fn sessions() -> Vec<String> {
    let mut admin = PgConnection::establish(&server().url()).unwrap();
    let sessions =
        "SELECT coalesce(array_agg(concat_ws(' | ', s.pid, s.datname, s.application_name, s.state,
            s.wait_event, 'blocked by ' || pg_blocking_pids(s.pid)::text, s.query, l.locks)), '{}')
        FROM pg_stat_activity s LEFT JOIN LATERAL (
            SELECT string_agg(concat_ws(' ', relation, mode, granted), ', ') AS locks
            FROM pg_locks WHERE pid = s.pid AND locktype <> 'virtualxid') AS l ON true
        WHERE s.backend_type LIKE '%client%' OR s.backend_type LIKE '%autovacuum%'";
    let texts = diesel::dsl::sql::<Array<Text>>(&format!("({sessions})"));
    diesel::select(texts).get_result(&mut admin).unwrap()
}

/// Prints how to repeat a directory that fails.
struct Repeat(u64);

#[allow(clippy::print_stdout)] // for a run by hand
impl Drop for Repeat {
    fn drop(&mut self) {
        if thread::panicking() {
            println!("repeated by PGLOCK_DIRECTORIES=1 PGLOCK_SEED={}", self.0);
        }
    }
}

pub(super) fn left_behind(db: &Database) -> Vec<String> {
    let mut conn = db.running("SET search_path = ''");
    let mut left = texts(&mut conn, LEFT);
    for history in texts(&mut conn, HISTORIES) {
        let versions = format!(
            "SELECT array_agg(format('%s in {history}', version) ORDER BY 1) FROM {history}"
        );
        left.extend(texts(
            &mut conn,
            &format!("SELECT coalesce(({versions}), '{{}}')"),
        ));
    }
    left
}

/// The settings that a migration may have left in its session.
fn session(conn: &mut PgConnection) -> Option<Vec<String>> {
    let settings = "SELECT ARRAY[current_setting('search_path'), current_setting('role'),
        current_setting('client_encoding'), current_setting('statement_timeout'), current_setting('lock_timeout'),
        current_setting('default_transaction_isolation'), current_setting('session_replication_role'),
        current_setting('standard_conforming_strings'), current_setting('application_name')]";
    let texts = diesel::dsl::sql::<Array<Text>>(&format!("({settings})"));
    diesel::select(texts).get_result(conn).ok()
}

/// The errors of Diesel's own harness where this one goes on: a migration took the statements of
/// Diesel's cache, or led the `search_path` away from the history. If it has also ended its
/// transaction, a failing rollback hides the error.
const KNOWN: [&str; 3] = [
    "prepared statement",
    "Cannot perform this operation outside of a transaction",
    "\"__diesel_schema_migrations\" does not exist",
];

/// Returns the number of versions in a history.
fn versions(left: &[String]) -> usize {
    let is_version = |line: &&String| line.starts_with("2026");
    left.iter().filter(is_version).count()
}

/// Returns true if the first harness has gone on at least as far as the second.
fn is_more(work: Work, first: usize, second: usize) -> bool {
    match work {
        Work::Run => first >= second,
        Work::RevertLast => first <= second,
    }
}

/// A call of a harness.
#[derive(Clone, Copy)]
enum Work {
    Run,
    RevertLast,
}

const STEPS: [Work; 3] = [Work::Run, Work::RevertLast, Work::Run];

fn work<H: MigrationHarness<Pg>>(
    harness: &mut H,
    work: Work,
    source: FileBasedMigrations,
) -> Result<usize, String> {
    let done = match work {
        Work::Run => harness
            .run_pending_migrations(source)
            .map(|done| done.len()),
        Work::RevertLast => harness.revert_last_migration(source).map(|_| 1),
    };
    done.map_err(|error| error.to_string())
}

/// Locks tables for moments, one at a time, until `stop`.
///
/// A migration may leave a transaction open, for which a lock would wait without limit, and with it
/// all readers behind the lock.
fn be_a_nuisance(db: &Database, stop: &AtomicBool, mut random: Random) {
    let mut conn = None;
    while !stop.load(Ordering::SeqCst) {
        let conn = conn.get_or_insert_with(|| db.running("SET lock_timeout = '50ms'"));
        let lock = random.one_of(&[
            "LOCK TABLE public.__diesel_schema_migrations",
            "SELECT FROM public.users",
            "LOCK TABLE public.posts",
            "UPDATE public.ledger SET i = i",
        ]);
        // The history may not exist yet.
        let _ = conn.batch_execute(&format!("BEGIN; {lock}; SELECT pg_sleep(0.01)"));
        let _ = conn.batch_execute("ROLLBACK");
    }
}

#[test]
fn a_nuisance_does_not_hold_up_readers_behind_a_transaction_that_a_migration_left_open() {
    let db = Database::new();
    db.connect().run_pending_migrations(MIGRATIONS).unwrap();
    let _left_open = db.running("BEGIN; DELETE FROM __diesel_schema_migrations");
    let mut reader = db.running("SET statement_timeout = '20s'");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = Stop(&stop);
        scope.spawn(|| be_a_nuisance(&db, &stop, Random(1)));
        let waiting =
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'";
        for _ in 0..3 {
            wait_until("the nuisance waits", || {
                count(&mut db.connect(), waiting) > 0
            });
            let versions = "SELECT count(*) FROM __diesel_schema_migrations";
            assert!(count(&mut reader, versions) > 0);
        }
    });
}

struct Stop<'s>(&'s AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// The comparison of a directory.
enum Comparison {
    AppliedAlike,
    FailedAlike,
    /// Diesel's own harness failed with this error, and this one went on.
    WentOn(String),
}

/// Applies one directory with both harnesses.
fn compare(seed: u64, is_quiet: bool) -> Comparison {
    let mut random = Random(seed);
    for _ in 0..8 {
        random.below(2);
    }
    let texts = directory(&mut random);
    let dbs = [Database::new(), Database::new()];
    for db in &dbs {
        db.running(
            "CREATE TABLE ledger (i int); GRANT ALL ON ledger, users, posts TO pglock_differential;
             GRANT ALL ON SCHEMA public TO pglock_differential",
        );
    }
    let ups: Vec<&str> = texts.iter().map(|(up, _)| &**up).collect();
    let migrations = Migrations::new(&dbs[1], &ups);
    for (i, (_, down)) in texts.iter().enumerate() {
        let folder = format!("2026-01-0{}-000000_step", i + 1);
        std::fs::write(migrations.0.join(folder).join("down.sql"), down).unwrap();
    }
    let stop = AtomicBool::new(false);
    let difference = thread::scope(|scope| {
        let _stop = Stop(&stop);
        if !is_quiet {
            scope.spawn(|| be_a_nuisance(&dbs[1], &stop, Random(seed + 1)));
        }
        let mut comparison = Comparison::AppliedAlike;
        for (i, step) in STEPS.into_iter().enumerate() {
            let at = format!("seed {seed}, step {i}: {texts:#?}");
            // Each run has a session of its own: Diesel's next run in the same one would search the
            // history along the `search_path` that a migration left.
            let [mut diesels, mut ours] = dbs.each_ref().map(Database::connect);
            let expected = work(&mut diesels, step, migrations.source());
            let mut harness =
                PrioritizedHarness::new(&mut ours, patient(&dbs[1])).lock_timeout(LONG);
            let done = work(&mut harness, step, migrations.source());
            drop(harness);
            let left = dbs.each_ref().map(left_behind);
            match (&expected, &done) {
                (Ok(_), Err(error)) => panic!("{at}\nthis alone fails: {error}"),
                (Ok(expected), Ok(done)) => assert_eq!(done, expected, "{at}"),
                (Err(error), done) => {
                    let [diesels, ours] = left.each_ref().map(|left| versions(left));
                    if done.as_ref().err() != Some(error) || ours != diesels {
                        assert!(is_more(step, ours, diesels), "{at}\n{error}\n{done:?}");
                        return Comparison::WentOn(format!("seed {seed}: {error}"));
                    }
                    comparison = Comparison::FailedAlike;
                }
            }
            assert_eq!(
                left[1], left[0],
                "{at}\nDiesel: {expected:?}\nthis: {done:?}"
            );
            let sessions = [&mut ours, &mut diesels].map(session);
            assert_eq!(sessions[0], sessions[1], "{at}");
        }
        comparison
    });
    drop_databases(&dbs);
    difference
}

/// By hand, hundreds of databases need much room.
pub(super) fn drop_databases(dbs: &[Database]) {
    let mut admin = PgConnection::establish(&server().url()).unwrap();
    for db in dbs {
        let _ = admin.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", db.name));
    }
}

/// By hand: `PGLOCK_DIRECTORIES=500`; `PGLOCK_SEED` is the first seed.
#[test]
#[allow(clippy::print_stdout)] // for a run by hand
fn directories_at_random_have_the_results_of_diesels_own_harness() {
    let variable = |name| {
        std::env::var(name)
            .ok()
            .map(|it| it.parse::<u64>().unwrap())
    };
    let directories = variable("PGLOCK_DIRECTORIES").unwrap_or(30);
    let first = variable("PGLOCK_SEED").unwrap_or(1);
    let mut admin = PgConnection::establish(&server().url()).unwrap();
    admin
        .batch_execute("CREATE ROLE pglock_differential")
        .unwrap();
    let (mut differences, mut applied, mut failed) = (Vec::new(), 0, 0);
    for seed in first..first + directories {
        let _repeat = Repeat(seed);
        match compare(seed * 7919, seed % 3 != 0) {
            Comparison::AppliedAlike => applied += 1,
            Comparison::FailedAlike => failed += 1,
            Comparison::WentOn(difference) => differences.push(difference),
        }
    }
    let count = differences.len();
    println!("{applied} applied alike, {failed} failed alike, in {count} only Diesel's failed:");
    println!("{differences:#?}");
    let is_known = |it: &&String| KNOWN.iter().any(|known| it.contains(known));
    let unknown: Vec<_> = differences.iter().filter(|it| !is_known(it)).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
}
