//! Recognises migrations that failed because a lock was not available, or by a deadlock.
//!
//! Diesel shows no SQLSTATE, and the error of a migration is a text in the server's language
//! without its details. The text of a lock timeout is therefore learnt from the server, and a
//! deadlock is recognised by the server's count of deadlocks.

use std::time::Duration;

use diesel::Connection;
use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::deadlock_count::{deadlock_count, deadlock_timeout, reported_deadlock_count};
use super::lock_timeout_text::LockTimeoutText;
use super::locks_first::LocksBusy;
use crate::error::Result;
use crate::fmt::with_sources;
use crate::source::WatcherSource;

/// A failure because of a lock: only such an attempt is repeated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum LockFailure {
    Timeout,
    Deadlock,
}

/// Recognises the lock failures of one run.
#[derive(Debug, Default)]
pub(crate) struct LockFailures {
    /// The text of a lock timeout, once it was needed.
    lock_timeout: Option<LockTimeoutText>,
    /// The deadlocks in the database before the current attempt; `None` if unknown.
    pub(crate) deadlocks: Option<i64>,
}

impl LockFailures {
    /// Notes the deadlocks before an attempt.
    pub(crate) fn before_attempt<C>(&mut self, conn: &mut C)
    where
        C: Connection<Backend = Pg> + LoadConnection,
    {
        self.deadlocks = deadlock_count(conn).ok();
    }

    /// Returns the lock failure of an attempt that took this long; `None` if it failed otherwise.
    ///
    /// A deadlock of another session in the same database meanwhile counts too: then an attempt
    /// is repeated that need not have been, which does no harm.
    pub(crate) fn recognise<C>(
        &mut self,
        error: &(dyn std::error::Error + 'static),
        took: Duration,
        conn: &mut C,
        source: &impl WatcherSource,
    ) -> Option<LockFailure>
    where
        C: Connection<Backend = Pg> + LoadConnection,
    {
        if error.is::<LocksBusy>() {
            return Some(LockFailure::Timeout);
        }
        let error = with_sources(error);
        let is_lock_timeout = LockTimeoutText::of_session(&mut self.lock_timeout, conn, source)
            .is_ok_and(|text| !text.is_empty() && error.contains(text));
        if is_lock_timeout {
            return Some(LockFailure::Timeout);
        }
        let may_be_deadlock = self.may_be_deadlock(took, conn).unwrap_or(false);
        may_be_deadlock.then_some(LockFailure::Deadlock)
    }

    fn may_be_deadlock<C>(&self, took: Duration, conn: &mut C) -> Result<bool>
    where
        C: Connection<Backend = Pg> + LoadConnection,
    {
        let Some(previous) = self.deadlocks else {
            return Ok(false);
        };
        // The server looks for a deadlock only after a wait as long as this.
        if took < deadlock_timeout(conn)? {
            return Ok(false);
        }
        Ok(reported_deadlock_count(conn, previous)? > previous)
    }
}
