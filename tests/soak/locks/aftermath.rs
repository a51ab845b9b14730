//! The state of the server once the pools are idle.

use std::time::{Duration, Instant};

use diesel::PgConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{Array, Text};
use diesel_pglock::prelude::*;
use diesel_pglock::{AdvisoryKey, TableLockMode::AccessExclusive};

use super::step::KEYS;
use super::world::{World, ledger};

/// The limit for sessions to end whose clients are gone.
const LIMIT: Duration = Duration::from_secs(30);

/// Checks that sessions hold nothing, and that no half of a transaction was committed.
pub fn check(world: &World, observer: &mut PgConnection) {
    none_is_left(observer, "a lock or a transaction is left", LEFT);
    none(observer, "half a transfer was committed", HALVES);
    none(observer, "a token did not rise", TOKENS_OUT_OF_ORDER);
    every_lock_can_be_acquired(observer);
    world.journal.count("checks");
}

/// Lists sessions that hold advisory locks, or a transaction, and with it locks on tables.
const LEFT: &str = "SELECT concat_ws(' ', a.usename, a.pid, a.state, xact_start, advisory, query)
    FROM pg_stat_activity AS a LEFT JOIN (
        SELECT pid, array_agg(format('%s %s', mode, objid)) AS advisory
        FROM pg_locks WHERE locktype = 'advisory' GROUP BY pid
    ) AS l USING (pid)
    WHERE usename LIKE 'soak%' AND (xact_start IS NOT NULL OR advisory IS NOT NULL)";

/// Lists pairs of accounts whose sum is not the one that they began with.
const HALVES: &str = "SELECT format('pair %s: %s', id / 2, sum(balance)) FROM accounts
    GROUP BY id / 2 HAVING sum(balance) <> 2000";

/// Lists tokens that are no higher than the one before for the same key, or came twice.
const TOKENS_OUT_OF_ORDER: &str =
    "SELECT format('key %s: %s after %s', key, token, previous) FROM (
        SELECT key, token, lag(token) OVER (PARTITION BY key ORDER BY id) AS previous,
            lag(token) OVER (ORDER BY token) AS next_lower
        FROM tokens
    ) AS token WHERE token <= previous OR token = next_lower";

fn every_lock_can_be_acquired(observer: &mut PgConnection) {
    for key in 0..KEYS as i32 {
        let lock = observer.advisory(AdvisoryKey::pair(7, key)).try_acquire();
        assert!(lock.expect("an answer").is_some(), "key {key} is busy");
    }
    let lock = observer.lock_table::<ledger::table>(AccessExclusive);
    let ran = lock.try_run(|_| QueryResult::Ok(()));
    assert!(ran.expect("an answer").is_some(), "the table is busy");
}

/// Fails with the texts that a query still lists at the limit.
fn none_is_left(observer: &mut PgConnection, fault: &str, query: &str) {
    let started = Instant::now();
    while started.elapsed() < LIMIT && !list(observer, query).is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    none(observer, fault, query);
}

/// Fails with the texts that a query lists.
fn none(observer: &mut PgConnection, fault: &str, query: &str) {
    let listed = list(observer, query);
    assert!(listed.is_empty(), "{fault}: {listed:#?}");
}

fn list(observer: &mut PgConnection, query: &str) -> Vec<String> {
    let list = sql::<Array<Text>>(&format!("ARRAY({query})"));
    diesel::select(list).get_result(observer).expect("a list")
}
