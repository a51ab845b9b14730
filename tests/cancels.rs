//! Cancels at random moments: no session lock stays in a session that lives on.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_pglock::Error;
use diesel_pglock::prelude::*;

use crate::support::*;

type Call = fn(&mut PgConnection) -> Result<(), Error>;

/// The time that the cancels hit calls.
const SPELL: Duration = Duration::from_secs(3);

/// Cancels the statements of one session after another pause each time.
fn cancel_at_random(db: &Database, pid: &AtomicI32, done: &AtomicBool) {
    let mut conn = db.connect();
    let mut pause = 1_u64;
    while !done.load(Ordering::SeqCst) {
        let pid = pid.load(Ordering::SeqCst);
        conn.batch_execute(&format!("SELECT pg_cancel_backend({pid})"))
            .unwrap();
        pause = pause * 48_271 % 2_147_483_647;
        std::thread::sleep(Duration::from_micros(pause % 3_000));
    }
}

/// Runs a call until the spell is over; returns how many calls failed.
fn run_under_cancels(call: Call) -> usize {
    let db = Database::new();
    let (pid, done) = (AtomicI32::new(0), AtomicBool::new(false));
    let mut observer = db.connect();
    std::thread::scope(|scope| {
        scope.spawn(|| cancel_at_random(&db, &pid, &done));
        let (started, mut failed) = (Instant::now(), 0);
        let mut conn = db.connect();
        let mut own = self::pid(&mut conn);
        pid.store(own, Ordering::SeqCst);
        while started.elapsed() < SPELL {
            if call(&mut conn).is_ok() {
                continue;
            }
            failed += 1;
            // One cancel may still be on its way.
            pid.store(0, Ordering::SeqCst);
            let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'
                         AND pid = pg_backend_pid()";
            let held = diesel::select(number(locks)).get_result::<i64>(&mut conn);
            if held.is_err() && conn.batch_execute("SELECT 1").is_err() {
                conn = db.connect();
                own = self::pid(&mut conn);
            } else {
                assert_eq!(held.unwrap_or_default(), 0);
            }
            pid.store(own, Ordering::SeqCst);
        }
        done.store(true, Ordering::SeqCst);
        wait_until("no lock is held", || advisory_locks(&mut observer) == 0);
        failed
    })
}

#[test]
fn no_cancel_leaves_a_lock_behind() {
    let calls: [Call; 3] = [
        |conn| conn.advisory(1).try_run(|_| Ok::<_, Error>(())).map(drop),
        |conn| conn.transaction(|conn| conn.advisory(1).try_run(|_| Ok::<_, Error>(())).map(drop)),
        |conn| conn.transaction(|conn| conn.advisory(1).acquire()?.release()),
    ];
    for call in calls {
        assert!(run_under_cancels(call) > 0, "no cancel hit a call");
    }
}
