//! One cancel for each call, at a random moment: no session that lives on holds a lock.
//!
//! `cargo xtask soak cancels --count N` makes N calls of each kind. It prints how many calls
//! failed, by the statements that the cancels hit.

mod call;
mod canceller;
mod hits;

use std::time::{Duration, Instant};

use diesel::prelude::*;
use pglock_sandbox::Sandbox;

use self::call::{Call, Front, asyncs, syncs};
use self::canceller::Canceller;
use self::hits::Hits;
use super::settings;
use crate::support::*;

#[test]
fn no_cancel_of_a_sync_call_leaves_a_lock_behind() {
    cancel_all(&syncs());
}

#[test]
fn no_cancel_of_an_async_call_leaves_a_lock_behind() {
    cancel_all(&asyncs());
}

fn cancel_all<C: Front>(calls: &[Call<C>]) {
    let server = Sandbox::start().expect("a throwaway server");
    let (mut chance, count) = (Chance(settings::seed()), settings::count(100));
    for call in calls {
        cancel_each(&slow_database(&server), call, count, &mut chance);
    }
}

/// Creates a database in which the functions of advisory locks take their time, before and after
/// they do their work: a cancel may hit both.
fn slow_database(server: &Sandbox) -> Database {
    let db = Database::on(server);
    let functions = [
        "pg_try_advisory_lock",
        "pg_try_advisory_lock_shared",
        "pg_try_advisory_xact_lock",
        "pg_advisory_unlock",
        "pg_advisory_unlock_shared",
    ];
    for function in functions {
        db.running(&format!(
            "SET allow_system_table_mods = on;
             ALTER FUNCTION pg_catalog.{function}(bigint) RENAME TO fast_{function};
             CREATE FUNCTION pg_catalog.{function}(bigint) RETURNS bool LANGUAGE plpgsql AS $$
             DECLARE done bool;
             BEGIN
                 PERFORM pg_catalog.pg_sleep(0.001);
                 done := pg_catalog.fast_{function}($1);
                 PERFORM pg_catalog.pg_sleep(0.001);
                 RETURN done;
             END $$"
        ));
    }
    db
}

/// Makes a call many times, with one cancel each; more often, if few of the cancels hit.
fn cancel_each<C: Front>(db: &Database, call: &Call<C>, count: u64, chance: &mut Chance) {
    let (canceller, mut observer) = (Canceller::new(&db.url), db.connect());
    let hits = Hits::new(canceller.started());
    let mut conn = hits.watch(C::open(&db.url));
    let statements = statements(call, &mut conn, &hits);
    for made in 0..10 * count {
        if made >= count && hits.failed() * 20 >= made {
            break;
        }
        let pid = conn.pid();
        canceller.prepare(pid, call.waits, chance);
        // A call that waits sends no more before the release.
        hits.choose(if call.waits {
            0
        } else {
            chance.below(statements)
        });
        let failed = (call.make)(&mut conn).is_err();
        hits.end();
        canceller.await_sent();
        hits.count(failed);
        assert_nothing_is_held(&mut observer, pid, call.name, &hits);
        if !conn.is_usable() {
            conn = hits.watch(C::open(&db.url));
        }
    }
    hits.print(C::KIND, call.name);
    assert!(hits.failed() * 20 >= count, "{}: too few failed", call.name);
}

/// Returns the number of statements of a call without a cancel.
fn statements<C: Front>(call: &Call<C>, conn: &mut C, hits: &Hits) -> u64 {
    (call.make)(conn).expect("no cancel"); // prepares statements
    hits.choose(u64::MAX - 1);
    (call.make)(conn).expect("no cancel");
    hits.statements()
}

/// Sessions may take a moment to end.
fn assert_nothing_is_held(observer: &mut PgConnection, pid: i32, name: &str, hits: &Hits) {
    let held = format!("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = {pid}");
    let started = Instant::now();
    while count(observer, &held) > 0 {
        let limit = Duration::from_secs(10);
        assert!(started.elapsed() < limit, "{name} left a lock: {hits:?}");
    }
}
