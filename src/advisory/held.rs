//! The state of a monitored lock, which expires by the clock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[cfg(feature = "async")]
use tokio::sync::Notify;

use super::fencing_token::FencingToken;
use super::monitor::MonitorSettings;

/// A lock that a [`LockMonitor`](crate::LockMonitor) watches; the second argument of the closure.
///
/// Clones can be given to other threads and tasks. Once the run is over, the lock counts as lost.
#[derive(Clone, Debug)]
pub struct Held {
    token: FencingToken,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    confirmation: Mutex<Confirmation>,
    #[cfg(feature = "async")]
    changed: Notify,
}

/// The state of the lock, as far as the monitor knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LockState {
    Held,
    Lost,
    /// The run is over.
    Ended,
}

/// The last proof that the lock is held.
///
/// It expires by the clock, so a monitor that hangs cannot keep it alive.
#[derive(Debug)]
struct Confirmation {
    at: Instant,
    valid_for: Duration,
    state: LockState,
}

impl Confirmation {
    /// Returns the time until the proof expires.
    fn time_left(&self, now: Instant) -> Duration {
        let age = now.saturating_duration_since(self.at);
        self.valid_for.saturating_sub(age)
    }

    /// Returns the state, in which a lock whose proof has expired is lost for ever.
    fn state(&mut self, now: Instant) -> LockState {
        if self.state == LockState::Held && self.time_left(now).is_zero() {
            self.state = LockState::Lost;
        }
        self.state
    }

    /// Takes the answer to a question of time `asked`; it proves nothing about later moments.
    fn answer(&mut self, is_held: bool, asked: Instant, now: Instant) {
        match self.state(now) {
            LockState::Held if is_held => self.at = asked,
            LockState::Held => self.state = LockState::Lost,
            LockState::Lost | LockState::Ended => {}
        }
    }

    /// Ends the run; a lock that was lost before stays that, for the event that reports it.
    fn end(&mut self, now: Instant) {
        if self.state(now) == LockState::Held {
            self.state = LockState::Ended;
        }
    }
}

impl Held {
    /// Creates the state of a lock that the holder itself proved by a question of time `asked`.
    pub(super) fn new(token: FencingToken, asked: Instant, settings: MonitorSettings) -> Self {
        let confirmation = Confirmation {
            at: asked,
            valid_for: settings.interval.saturating_add(settings.patience),
            state: LockState::Held,
        };
        Self {
            token,
            shared: Arc::new(Shared {
                confirmation: Mutex::new(confirmation),
                #[cfg(feature = "async")]
                changed: Notify::new(),
            }),
        }
    }

    /// Returns the token of this acquisition, for the writes that the lock protects.
    pub fn token(&self) -> FencingToken {
        self.token
    }

    /// Returns `true` once the lock is lost, and always from then on.
    ///
    /// The lock is lost if a poll found it gone, or if the server gave no answer for the
    /// [interval](crate::LockMonitor::interval) and the [patience](crate::LockMonitor::patience)
    /// together. The result comes from the last answer and the clock; nothing is sent, and the
    /// call never waits. A lock can be lost right after this returned `false`, or while the
    /// process is suspended: only the [token](Self::token) protects a write from that.
    pub fn is_lost(&self) -> bool {
        self.state() != LockState::Held
    }

    /// Waits until the lock is lost.
    ///
    /// It needs a Tokio runtime with timers.
    ///
    /// # Cancel safety
    ///
    /// The future can be dropped at any time, for example by `tokio::select!`.
    ///
    /// # Examples
    ///
    /// ```
    /// # include!("../../tests/support/doctest.rs");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use diesel_async::{AsyncConnection, AsyncPgConnection};
    /// # let mut conn = AsyncPgConnection::establish(database_url()).await?;
    /// use std::time::Duration;
    ///
    /// use diesel_async::SimpleAsyncConnection;
    /// use diesel_pglock::{Error, LockMonitor, prelude::*};
    ///
    /// let monitor = LockMonitor::new(database_url()).interval(Duration::from_millis(20));
    /// let lock = conn.advisory("leader").monitored(&monitor);
    /// let led = lock.run(async |conn, held| {
    ///     conn.batch_execute("SELECT pg_advisory_unlock_all()").await?;
    ///     held.lost().await;
    ///     assert!(held.is_lost());
    ///     Ok::<_, Error>(())
    /// }).await;
    /// assert!(matches!(led, Err(Error::NotHeld(_))));
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "async")]
    pub async fn lost(&self) {
        loop {
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            // Enabled before the state is read, so that no change falls in between.
            changed.as_mut().enable();
            if self.is_lost() {
                return;
            }
            let expired = tokio::time::sleep(self.time_left());
            futures_util::future::select(changed, std::pin::pin!(expired)).await;
        }
    }

    #[cfg(feature = "async")]
    fn time_left(&self) -> Duration {
        self.confirmation().time_left(Instant::now())
    }

    pub(super) fn state(&self) -> LockState {
        self.confirmation().state(Instant::now())
    }

    /// Takes the answer to a question of time `asked`.
    pub(super) fn answer(&self, is_held: bool, asked: Instant) {
        let now = Instant::now();
        self.confirmation().answer(is_held, asked, now);
        self.notify();
    }

    /// Marks the end of the run.
    pub(super) fn end(&self) {
        self.confirmation().end(Instant::now());
        self.notify();
    }

    fn notify(&self) {
        #[cfg(feature = "async")]
        self.shared.changed.notify_waiters();
    }

    fn confirmation(&self) -> MutexGuard<'_, Confirmation> {
        let confirmation = self.shared.confirmation.lock();
        confirmation.unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn confirmed(at: Instant) -> Confirmation {
        Confirmation {
            at,
            valid_for: 11 * SECOND,
            state: LockState::Held,
        }
    }

    #[test]
    fn a_confirmation_counts_from_the_question_not_from_the_answer() {
        let start = Instant::now();
        let mut lock = confirmed(start);
        lock.answer(true, start + SECOND, start + 9 * SECOND);
        assert_eq!(lock.state(start + 11 * SECOND), LockState::Held);
        assert_eq!(lock.state(start + 12 * SECOND), LockState::Lost);
    }

    #[test]
    fn a_lock_without_an_answer_is_lost_by_the_clock() {
        let start = Instant::now();
        let mut lock = confirmed(start);
        assert_eq!(lock.state(start + 10 * SECOND), LockState::Held);
        assert_eq!(lock.state(start + 11 * SECOND), LockState::Lost);
    }

    #[test]
    fn a_lock_that_is_gone_is_lost_at_once() {
        let start = Instant::now();
        let mut lock = confirmed(start);
        lock.answer(false, start, start);
        assert_eq!(lock.state(start), LockState::Lost);
    }

    #[test]
    fn the_end_of_the_run_does_not_hide_that_the_lock_was_lost_before() {
        let start = Instant::now();
        let (mut lock, mut late) = (confirmed(start), confirmed(start));
        lock.end(start);
        assert_eq!(lock.state(start), LockState::Ended);
        late.end(start + 11 * SECOND);
        assert_eq!(late.state(start + 11 * SECOND), LockState::Lost);
    }

    #[test]
    fn a_lost_lock_stays_lost() {
        let start = Instant::now();
        let mut gone = confirmed(start);
        gone.answer(false, start, start);
        gone.answer(true, start + SECOND, start + SECOND);
        assert_eq!(gone.state(start + SECOND), LockState::Lost);

        let mut expired = confirmed(start);
        expired.answer(true, start + 20 * SECOND, start + 20 * SECOND);
        assert_eq!(expired.state(start + 20 * SECOND), LockState::Lost);
    }
}
