//! The message that waits for a lock of either kind.
//!
//! Only a lock timeout means "busy". Diesel shows no SQLSTATE and messages are translated, so a
//! block on the server handles that error. It leaves the outcome in a setting, because `DO`
//! returns no rows. The handler also keeps a surrounding transaction usable.

use super::wait::WaitLimit;
use crate::session::quote;
use crate::session::{ACQUIRED, BUSY, OUTCOME};

/// The lock statements of a call, in PL/pgSQL.
pub(crate) struct LockBlock {
    /// The statements that acquire the locks.
    pub(crate) locks: String,
    /// A condition that holds if the locks were granted at the last moment of a wait that failed.
    pub(crate) held: Option<String>,
    /// `true` if the setting with the outcome ends with the transaction.
    pub(crate) local: bool,
}

impl LockBlock {
    /// Renders the message: the limits, the block that waits under them, the values before.
    ///
    /// The limits are statements of their own because the server reads them when a statement
    /// starts. Outside a transaction they end with the message.
    pub(crate) fn message(&self, limit: WaitLimit) -> String {
        let block = quote(&self.body(limit));
        match limit {
            WaitLimit::NoWait => block,
            WaitLimit::SessionTimeout => format!("{}; {block}; {RESTORE}", quote(&limits(None))),
            WaitLimit::Deadline(deadline) => {
                let limits = limits(Some(deadline.remaining_millis()));
                format!("{}; {block}; {RESTORE}", quote(&limits))
            }
        }
    }

    fn body(&self, limit: WaitLimit) -> String {
        let Self { locks, local, .. } = self;
        let busy = self.busy();
        // One deadline is for all locks; `lock_timeout` would count again for each.
        let (deadline, no_lock_timeout) = match limit {
            WaitLimit::Deadline(_) => (DEADLINE, NO_LOCK_TIMEOUT),
            WaitLimit::NoWait | WaitLimit::SessionTimeout => ("NULL", ""),
        };
        format!(
            "DECLARE \
               previous pg_catalog.text := pg_catalog.current_setting('lock_timeout'); \
               deadline pg_catalog.timestamptz := {deadline}; \
             BEGIN \
               {no_lock_timeout}{locks}\
               PERFORM pg_catalog.set_config('lock_timeout', previous, true); \
               PERFORM pg_catalog.set_config('{OUTCOME}', '{ACQUIRED}', {local}); \
             EXCEPTION \
               WHEN lock_not_available THEN {busy}\
               WHEN query_canceled THEN \
                 IF deadline IS NULL \
                   OR pg_catalog.clock_timestamp() OPERATOR(pg_catalog.<) deadline \
                 THEN RAISE; END IF; \
                 {busy}\
             END"
        )
    }

    /// Leaves the outcome of a wait that failed.
    ///
    /// The snapshot of `pg_stat_activity` is cleared, because a later statement reads the holders.
    fn busy(&self) -> String {
        let local = self.local;
        let outcome = match &self.held {
            Some(held) => format!("CASE WHEN {held} THEN '{ACQUIRED}' ELSE '{BUSY}' END"),
            None => format!("'{BUSY}'"),
        };
        format!(
            "PERFORM pg_catalog.set_config('{OUTCOME}', {outcome}, {local}); \
             PERFORM pg_catalog.pg_stat_clear_snapshot(); "
        )
    }
}

/// The time when the statement timeout ends the wait, or a little earlier: the server starts
/// that clock after it has read the message.
const DEADLINE: &str = "pg_catalog.statement_timestamp() OPERATOR(pg_catalog.+) \
     pg_catalog.current_setting('diesel_pglock.time_left')::pg_catalog.interval";

const NO_LOCK_TIMEOUT: &str = "PERFORM pg_catalog.set_config('lock_timeout', '0', true); ";

/// Sets the limits of the wait, and keeps what was there.
///
/// A shorter `statement_timeout` of the session stays. PostgreSQL 14 and later check every
/// second whether the client is still connected, on platforms that support it. Without the check the wait
/// of a client that is gone would keep its place in the queue.
fn limits(millis: Option<u32>) -> String {
    let deadline = millis.map_or_else(String::new, |millis| {
        format!(
            "PERFORM pg_catalog.set_config('diesel_pglock.time_left', '{millis} ms', true); \
             IF previous::pg_catalog.interval OPERATOR(pg_catalog.=) '0'::pg_catalog.interval \
               OR previous::pg_catalog.interval OPERATOR(pg_catalog.>) '{millis} ms'::pg_catalog.interval \
             THEN PERFORM pg_catalog.set_config('statement_timeout', '{millis}', true); END IF; "
        )
    });
    format!(
        "DECLARE previous pg_catalog.text := pg_catalog.current_setting('statement_timeout'); \
         BEGIN \
           PERFORM pg_catalog.set_config('diesel_pglock.statement_timeout', previous, true); \
           {deadline}\
           PERFORM pg_catalog.set_config('diesel_pglock.check_interval', '', true); \
           IF pg_catalog.current_setting('client_connection_check_interval', true) \
             OPERATOR(pg_catalog.=) '0' \
           THEN BEGIN \
             PERFORM pg_catalog.set_config('client_connection_check_interval', '1s', true); \
             PERFORM pg_catalog.set_config('diesel_pglock.check_interval', '0', true); \
           EXCEPTION WHEN invalid_parameter_value THEN NULL; \
           END; END IF; \
         END"
    )
}

/// Restores the settings that [`limits`] replaced.
const RESTORE: &str = "SELECT pg_catalog.set_config('statement_timeout', \
       pg_catalog.current_setting('diesel_pglock.statement_timeout'), true), \
     CASE WHEN pg_catalog.current_setting('diesel_pglock.check_interval') OPERATOR(pg_catalog.=) '0' \
     THEN pg_catalog.set_config('client_connection_check_interval', '0', true) END";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::timeout::wait::WaitOption;

    fn block() -> LockBlock {
        LockBlock {
            locks: "LOCK TABLE t; ".to_owned(),
            held: None,
            local: true,
        }
    }

    /// Without what indents it.
    fn words(sql: &str) -> String {
        sql.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_call_that_does_not_wait_is_one_block_without_limits() {
        let expected = "DO $pglock$DECLARE \
            previous pg_catalog.text := pg_catalog.current_setting('lock_timeout'); \
            deadline pg_catalog.timestamptz := NULL; \
            BEGIN LOCK TABLE t; \
            PERFORM pg_catalog.set_config('lock_timeout', previous, true); \
            PERFORM pg_catalog.set_config('diesel_pglock.outcome', 'acquired', true); \
            EXCEPTION WHEN lock_not_available THEN \
            PERFORM pg_catalog.set_config('diesel_pglock.outcome', 'busy', true); \
            PERFORM pg_catalog.pg_stat_clear_snapshot(); \
            WHEN query_canceled THEN IF deadline IS NULL \
            OR pg_catalog.clock_timestamp() OPERATOR(pg_catalog.<) deadline THEN RAISE; END IF; \
            PERFORM pg_catalog.set_config('diesel_pglock.outcome', 'busy', true); \
            PERFORM pg_catalog.pg_stat_clear_snapshot(); \
            END$pglock$";
        assert_eq!(words(&block().message(WaitLimit::NoWait)), words(expected));
    }

    #[test]
    fn a_call_that_waits_sets_limits_before_the_block_and_restores_them_after() {
        let wait = WaitOption::Timeout(Duration::from_secs(3600))
            .for_try()
            .unwrap();
        let message = block().message(wait);
        let (limits, rest) = message.split_once("; DO ").unwrap();
        assert!(
            limits.contains("'statement_timeout', '3600000'"),
            "{limits}"
        );
        let (block, restore) = rest.split_once("; SELECT ").unwrap();
        assert!(block.contains("LOCK TABLE t"), "{block}");
        assert!(restore.contains("'statement_timeout'"), "{restore}");
    }
}
