//! The message that waits for a lock of either kind.
//!
//! Only a lock timeout means "busy". Diesel shows no SQLSTATE and messages are translated, so a
//! block on the server handles that error. It leaves the outcome in a setting, because `DO`
//! returns no rows. The handler also keeps a surrounding transaction usable.

use diesel::result::Error as DieselError;

use super::wait::WaitLimit;
use crate::session::quote;
use crate::session::{ACQUIRED, BUSY, OUTCOME};

/// The lock statements of a call, in PL/pgSQL.
pub(crate) struct LockBlock {
    /// The statements that acquire the locks.
    pub(crate) locks: String,
    /// A condition that holds if the locks were granted at the last moment of a wait that failed.
    pub(crate) held: Option<String>,
    pub(crate) reply: Reply,
}

/// The way in which a block tells whether the locks are held.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reply {
    /// It leaves an outcome in a setting, which a further statement reads.
    Outcome {
        /// True if the setting ends with the transaction.
        local: bool,
    },
    /// It fails if they are busy, by an error that [`is_busy`] recognizes; its transaction is
    /// aborted then.
    Error,
}

impl LockBlock {
    /// Renders the message: the limits, the block that waits under them, the values before.
    pub(crate) fn message(&self, limit: WaitLimit) -> String {
        let block = quote(&self.body(limit));
        // An error is for transactions of one's own.
        let local = !matches!(self.reply, Reply::Outcome { local: false });
        match limit {
            WaitLimit::NoWait => block,
            WaitLimit::SessionTimeout => checked(&block, local),
            WaitLimit::Deadline(deadline) => {
                let timeout = timeout(deadline.remaining_millis());
                let restore = restore(RESTORE_TIMEOUT, local);
                checked(&format!("{timeout}; {block}{restore}"), local)
            }
        }
    }

    fn body(&self, limit: WaitLimit) -> String {
        let (locks, busy) = (&self.locks, self.busy());
        let acquired = match self.reply {
            Reply::Outcome { local } => {
                format!("PERFORM pg_catalog.set_config('{OUTCOME}', '{ACQUIRED}', {local}); ")
            }
            Reply::Error => String::new(),
        };
        let not_available = format!("WHEN lock_not_available THEN {busy}");
        match limit {
            WaitLimit::NoWait | WaitLimit::SessionTimeout => {
                format!("BEGIN {locks}{acquired}EXCEPTION {not_available}END")
            }
            // One deadline is for all locks; `lock_timeout` would count again for each.
            WaitLimit::Deadline(_) => format!(
                "{DECLARE}BEGIN {NO_LOCK_TIMEOUT}{locks}{RESTORE_LOCK_TIMEOUT}{acquired}\
                 EXCEPTION {not_available}\
                 WHEN query_canceled THEN \
                 IF pg_catalog.clock_timestamp() OPERATOR(pg_catalog.<) deadline \
                 THEN RAISE; END IF; {busy}END"
            ),
        }
    }

    /// Replies that a wait failed.
    ///
    /// The snapshot of `pg_stat_activity` is cleared, because a later statement reads the holders.
    fn busy(&self) -> String {
        let Reply::Outcome { local } = self.reply else {
            return format!("RAISE lock_not_available USING MESSAGE = '{BUSY_ERROR}'; ");
        };
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

/// Returns true for the error of a block that replies by an error: the lock is busy.
pub(crate) fn is_busy(error: &DieselError) -> bool {
    matches!(error, DieselError::DatabaseError(_, it) if it.message() == BUSY_ERROR)
}

/// The message of that error, in every language.
const BUSY_ERROR: &str = "the lock is held by other sessions";

/// Declares the time when the statement timeout ends the wait, or a little earlier: the server starts
/// that clock after it has read the message.
const DECLARE: &str = "DECLARE \
     previous pg_catalog.text := pg_catalog.current_setting('lock_timeout'); \
     deadline pg_catalog.timestamptz := pg_catalog.statement_timestamp() OPERATOR(pg_catalog.+) \
     pg_catalog.current_setting('diesel_pglock.time_left')::pg_catalog.interval; ";

const NO_LOCK_TIMEOUT: &str = "PERFORM pg_catalog.set_config('lock_timeout', '0', true); ";

const RESTORE_LOCK_TIMEOUT: &str =
    "PERFORM pg_catalog.set_config('lock_timeout', previous, true); ";

/// Renders the message of a wait during which the server checks whether the client is still
/// connected.
fn checked(wait: &str, local: bool) -> String {
    format!("{CHECK_CLIENT}; {wait}{}", restore(RESTORE_CHECK, local))
}

/// Renders a statement that restores settings. Outside a transaction they end with the message.
fn restore(statement: &str, local: bool) -> String {
    match local {
        true => format!("; {statement}"),
        false => String::new(),
    }
}

/// Renders a wait during which the server checks whether the client is connected: it can, and
/// does not yet.
pub(crate) fn with_client_check(wait: &str, local: bool) -> String {
    let restore = restore("SET LOCAL client_connection_check_interval = 0", local);
    format!("SET LOCAL client_connection_check_interval = '1s'; {wait}{restore}")
}

/// The condition that the server can check whether the client is connected, and does not yet.
///
/// It can from PostgreSQL 14 on, but not on every platform: the others refuse the setting.
macro_rules! can_check_client {
    () => {
        "pg_catalog.current_setting('client_connection_check_interval', true) OPERATOR(pg_catalog.=) '0' \
         AND (pg_catalog.version() OPERATOR(pg_catalog.~) 'linux' \
           OR pg_catalog.version() OPERATOR(pg_catalog.~) 'darwin|bsd|dragonfly' \
           AND pg_catalog.current_setting('server_version_num')::pg_catalog.int4 OPERATOR(pg_catalog.>=) 150000)"
    };
}

pub(crate) use can_check_client;

/// Lets the server check every second whether the client is still connected.
///
/// Without the check the wait of a client that is gone would keep its place in the queue. It is a
/// statement of its own because the server reads the setting when a statement starts.
const CHECK_CLIENT: &str = concat!(
    "SELECT pg_catalog.set_config('diesel_pglock.check_interval', '0', true), \
     pg_catalog.set_config('client_connection_check_interval', '1s', true) WHERE ",
    can_check_client!()
);

const RESTORE_CHECK: &str = "SELECT pg_catalog.set_config('diesel_pglock.check_interval', '', true), \
     pg_catalog.set_config('client_connection_check_interval', '0', true) \
     WHERE pg_catalog.current_setting('diesel_pglock.check_interval', true) OPERATOR(pg_catalog.=) '0'";

/// Sets the time limit of the wait, and keeps the one before. A shorter `statement_timeout` stays.
fn timeout(millis: u32) -> String {
    format!(
        "SELECT pg_catalog.set_config('diesel_pglock.statement_timeout', \
           pg_catalog.current_setting('statement_timeout'), true), \
         pg_catalog.set_config('diesel_pglock.time_left', '{millis} ms', true), \
         CASE WHEN pg_catalog.current_setting('statement_timeout')::pg_catalog.interval \
           OPERATOR(pg_catalog.=) '0'::pg_catalog.interval \
           OR pg_catalog.current_setting('statement_timeout')::pg_catalog.interval \
           OPERATOR(pg_catalog.>) '{millis} ms'::pg_catalog.interval \
         THEN pg_catalog.set_config('statement_timeout', '{millis}', true) END"
    )
}

const RESTORE_TIMEOUT: &str = "SELECT pg_catalog.set_config('statement_timeout', \
     pg_catalog.current_setting('diesel_pglock.statement_timeout'), true)";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::timeout::wait::WaitOption;

    fn block() -> LockBlock {
        LockBlock {
            locks: "LOCK TABLE t; ".to_owned(),
            held: None,
            reply: Reply::Outcome { local: true },
        }
    }

    /// Without what indents it.
    fn words(sql: &str) -> String {
        sql.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_call_that_does_not_wait_is_one_block_without_limits() {
        let expected = "DO $pglock$BEGIN LOCK TABLE t; \
            PERFORM pg_catalog.set_config('diesel_pglock.outcome', 'acquired', true); \
            EXCEPTION WHEN lock_not_available THEN \
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
        let parts: Vec<&str> = message.split("; SELECT ").collect();
        assert_eq!(parts.len(), 4, "{message}");
        assert!(parts[0].contains("client_connection_check_interval"));
        let (timeout, block) = parts[1].split_once("; DO ").unwrap();
        assert!(timeout.contains("'statement_timeout', '3600000'"));
        assert!(block.contains("LOCK TABLE t"), "{block}");
        assert!(parts[2].contains("'statement_timeout'"), "{message}");
        assert!(parts[3].contains("client_connection_check_interval"));
    }
}
