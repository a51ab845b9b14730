//! Instances in processes of their own, some of them killed at random.

use std::process::Child;
use std::time::Instant;

use super::differential::Random;
use super::instances::start_instance;
use super::*;

const UPS: [&str; 5] = [
    "CREATE TABLE ledger (i int UNIQUE); INSERT INTO ledger VALUES (1)",
    "INSERT INTO ledger VALUES (2); LOCK TABLE users; SELECT pg_sleep(0.03)",
    "-- concurrently\nCREATE INDEX CONCURRENTLY IF NOT EXISTS users_name ON users (name)",
    "INSERT INTO ledger VALUES (4)",
    "INSERT INTO ledger VALUES (5); SELECT pg_sleep(0.02)",
];

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

fn round(seed: u64) {
    let mut random = Random(seed);
    let db = Database::new();
    let migrations = Migrations::new(&db, &UPS);
    let mut instances: Vec<_> = (0..8)
        .map(|_| {
            pause(&mut random, 20);
            Some(start_instance(&db, &migrations))
        })
        .collect();
    disturb(&db, &mut random, &mut instances);
    for mut survivor in instances.into_iter().flatten() {
        assert!(survivor.wait().unwrap().success(), "seed {seed}");
    }
    // If all that could were killed, the next one continues.
    let mut conn = db.connect();
    let mut harness = PrioritizedHarness::new(&mut conn, patient(&db)).lock_timeout(LONG);
    harness.run_pending_migrations(migrations.source()).unwrap();
    drop(harness);
    assert_eq!(applied(&db), 5, "seed {seed}");
    assert_eq!(
        count(&mut conn, "SELECT count(*) FROM ledger"),
        4,
        "seed {seed}"
    );
    wait_until("no lock is left", || advisory_locks(&db) == 0);
    drop(conn);
    super::differential::drop_databases(&[db]);
}

/// By hand: `PGLOCK_ROUNDS=200`; `PGLOCK_SEED` is the first seed.
#[test]
fn instances_killed_at_random_lose_no_migration_and_run_none_twice() {
    let variable = |name| {
        std::env::var(name)
            .ok()
            .map(|it| it.parse::<u64>().unwrap())
    };
    let first = variable("PGLOCK_SEED").unwrap_or(1);
    for seed in first..first + variable("PGLOCK_ROUNDS").unwrap_or(2) {
        round(seed * 104_729);
    }
}
