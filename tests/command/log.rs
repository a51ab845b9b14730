//! The signal log of signals by hand, and `pglock log`.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_migrations::MigrationHarness;
use diesel_pglock::{MIGRATIONS, SignalLog};
use serde_json::Value;

use super::{Jam, pglock};
use crate::support::{Database, count, setting, wait_until};

const SIGNAL: [&str; 5] = ["--roots", "--on", "users", "--terminate", "--yes"];

fn install(database: &Database) {
    database
        .connect()
        .run_pending_migrations(MIGRATIONS)
        .unwrap();
}

#[test]
fn a_signal_by_hand_is_logged() {
    let jam = Jam::new();
    install(&jam.database);
    let ran = pglock(&jam.database, &SIGNAL);
    assert_eq!((ran.code, &*ran.err), (0, ""), "{ran:?}");
    let mut observer = jam.database.connect();
    let entry: SignalLog = SignalLog::query().first(&mut observer).unwrap();
    assert_eq!((&*entry.kind, &*entry.outcome), ("terminate", "sent"));
    assert_eq!(
        (entry.pid, entry.blocked_pid),
        (jam.holder_pid, jam.waiter_pid)
    );
    assert_eq!(entry.wait_path, Some(vec![jam.waiter_pid, jam.holder_pid]));
    assert_eq!(entry.application_name.as_deref(), Some("holder"));
    assert_eq!(entry.sender_application_name, "pglock");
    assert!(entry.awaited.unwrap().contains("AccessExclusiveLock"));
    assert!(entry.blocked_query.unwrap().starts_with("ALTER TABLE"));
    assert!(entry.held.iter().any(|held| held.contains("public.users")));

    let shown = pglock(&jam.database, &["log"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    assert!(shown.out.contains("terminate"), "{}", shown.out);
    let json = pglock(
        &jam.database,
        &["log", "--json", "--since", "1h", "--limit", "1"],
    );
    let entries: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(entries[0]["pid"], jam.holder_pid);
    observer
        .batch_execute("UPDATE pglock.signal_log SET sent_at = sent_at - interval '1 hour'")
        .unwrap();
    let old = pglock(&jam.database, &["log", "--since", "30min"]);
    assert_eq!((old.code, &*old.err), (1, "no signals\n"));
    jam.end().unwrap();
}

#[test]
fn a_signal_to_a_session_that_blocks_nobody_is_logged_too() {
    let database = Database::new();
    install(&database);
    let mut idle = database.running("BEGIN; LOCK TABLE users");
    let pid = crate::support::pid(&mut idle).to_string();
    assert_eq!(pglock(&database, &[&pid, "--terminate", "--yes"]).code, 0);
    let entry: SignalLog = SignalLog::query().first(&mut database.connect()).unwrap();
    assert_eq!(
        (entry.blocked_pid, entry.awaited, entry.wait_path),
        (0, None, None)
    );
}

#[test]
fn a_signal_is_sent_although_its_log_is_locked_or_denied() {
    let jam = Jam::new();
    install(&jam.database);
    let lock = jam.database.running("BEGIN; LOCK TABLE pglock.signal_log");
    let ran = pglock(&jam.database, &SIGNAL);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("ended"), "{ran:?}");
    assert!(ran.out.contains("not in the signal log: "), "{ran:?}");
    drop(lock);
    let mut observer = jam.database.connect();
    wait_until("the lock is gone", || {
        count(
            &mut observer,
            "SELECT count(*) FROM pg_locks WHERE relation = 'pglock.signal_log'::regclass AND mode = 'AccessExclusiveLock'",
        ) == 0
    });
    assert_eq!(
        count(&mut observer, "SELECT count(*) FROM pglock.signal_log"),
        0
    );
    assert_eq!(setting(&mut observer, "lock_timeout"), "0");
    jam.end().unwrap();
}

#[test]
fn without_a_log_signals_are_sent_and_the_list_says_how_to_make_one() {
    let jam = Jam::new();
    let ran = pglock(&jam.database, &SIGNAL);
    assert_eq!((ran.code, &*ran.err), (0, ""), "{ran:?}");
    assert!(!ran.out.contains("signal log"), "{ran:?}");
    let log = pglock(&jam.database, &["log"]);
    assert_eq!(log.code, 5, "{log:?}");
    assert!(log.err.contains("pglock migrate install"), "{log:?}");
    jam.end().unwrap();
}
