//! Instances in processes of their own, some of them killed at random.

use std::process::{Child, Stdio};
use std::time::Instant;

use super::differential::Random;
use super::instances::instance;
use super::*;

/// Two of them release the migration lock, before and after their work.
const UPS: [&str; 7] = [
    "CREATE TABLE ledger (i int UNIQUE); INSERT INTO ledger VALUES (1)",
    "INSERT INTO ledger VALUES (2); LOCK TABLE users; SELECT pg_sleep(0.03)",
    "SELECT pg_advisory_unlock_all(), pg_sleep(0.03); INSERT INTO ledger VALUES (3)",
    "-- concurrently\nCREATE INDEX CONCURRENTLY IF NOT EXISTS users_name ON users (name)",
    "INSERT INTO ledger VALUES (5)",
    "INSERT INTO ledger VALUES (6); SELECT pg_sleep(0.02); SELECT pg_advisory_unlock_all()",
    "INSERT INTO ledger VALUES (7)",
];

/// The migrations with a row in the ledger.
const ROWS: i64 = 6;

/// Returns true with a chance of one in two.
fn coin(random: &mut Random) -> bool {
    random.below(2) == 0
}

fn pause(random: &mut Random, most_millis: usize) {
    let millis = u64::try_from(random.below(most_millis)).unwrap();
    thread::sleep(Duration::from_millis(millis));
}

/// Locks the history and a table for moments, until the instances have ended.
fn disturb(db: &Database, random: &mut Random, instances: &mut [Option<Child>]) {
    let started = Instant::now();
    let mut stranger = db.connect();
    while instances
        .iter_mut()
        .flatten()
        .any(|it| it.try_wait().unwrap().is_none())
    {
        assert!(started.elapsed() < LONG, "an instance hangs");
        let table = ["__diesel_schema_migrations", "users"][random.below(2)];
        let _ = stranger.batch_execute(&format!("BEGIN; LOCK TABLE {table}"));
        pause(random, 150);
        let _ = stranger.batch_execute("ROLLBACK");
        pause(random, 50);
        let victim = random.below(instances.len());
        let is_killed = instances.iter().filter(|it| it.is_none()).count() < 5 && coin(random);
        if let Some(mut child) = is_killed.then(|| instances[victim].take()).flatten() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

/// The errors of an instance whose migration released the lock, which another instance got: by the
/// harness, or by the migration itself if the other one has just applied it.
const OVERTAKEN: [&str; 2] = [
    "the migration lock, which a migration released",
    "duplicate key value violates unique constraint",
];

/// The numbers of instances, by their ends.
#[derive(Debug, Default)]
struct Outcome {
    succeeded: u32,
    overtaken: u32,
    killed: u32,
}

fn round(seed: u64) -> Outcome {
    let mut random = Random(seed);
    let db = Database::new();
    let migrations = Migrations::new(&db, &UPS);
    let mut instances: Vec<_> = (0..8)
        .map(|_| {
            pause(&mut random, 20);
            let started = instance(&db, &migrations).stderr(Stdio::piped()).spawn();
            Some(started.unwrap())
        })
        .collect();
    disturb(&db, &mut random, &mut instances);
    let mut outcome = Outcome::default();
    for instance in instances {
        match instance.map(|it| it.wait_with_output().unwrap()) {
            None => outcome.killed += 1,
            Some(output) if output.status.success() => outcome.succeeded += 1,
            Some(output) => {
                let error = String::from_utf8_lossy(&output.stderr);
                let is_overtaken = OVERTAKEN.iter().any(|it| error.contains(it));
                assert!(is_overtaken, "seed {seed}: {error}");
                outcome.overtaken += 1;
            }
        }
    }
    // If no instance has come to the end, the next one continues.
    let mut conn = db.connect();
    let mut harness = PrioritizedHarness::new(&mut conn, patient(&db)).lock_timeout(LONG);
    harness.run_pending_migrations(migrations.source()).unwrap();
    drop(harness);
    assert_eq!(applied(&db), 7, "seed {seed}");
    let rows = count(&mut conn, "SELECT count(*) FROM ledger");
    assert_eq!(rows, ROWS, "seed {seed}");
    wait_until("no lock is left", || advisory_locks(&db) == 0);
    drop(conn);
    super::differential::drop_databases(&[db]);
    outcome
}

/// By hand: `PGLOCK_ROUNDS=200`; `PGLOCK_SEED` is the first seed.
#[test]
#[allow(clippy::print_stdout)] // for a run by hand
fn instances_killed_at_random_lose_no_migration_and_run_none_twice() {
    let variable = |name| {
        std::env::var(name)
            .ok()
            .map(|it| it.parse::<u64>().unwrap())
    };
    let first = variable("PGLOCK_SEED").unwrap_or(1);
    let rounds = variable("PGLOCK_ROUNDS").unwrap_or(2);
    let mut all = Outcome::default();
    for seed in first..first + rounds {
        let outcome = round(seed * 104_729);
        all.succeeded += outcome.succeeded;
        all.overtaken += outcome.overtaken;
        all.killed += outcome.killed;
    }
    println!("{rounds} rounds: {all:?}");
}
