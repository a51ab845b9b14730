//! The clock of the server, as an answer has shown it.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

/// A reading of the server's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerClock {
    read: DateTime<Utc>,
    received: Instant,
}

impl ServerClock {
    /// Returns a reading whose answer arrives now.
    pub(super) fn new(read: DateTime<Utc>) -> Self {
        Self {
            read,
            received: Instant::now(),
        }
    }

    /// Returns the server's time after `time` from now.
    ///
    /// The server's clock has passed it by then, since the answer took a while to arrive.
    pub(super) fn after(&self, time: Duration) -> DateTime<Utc> {
        let elapsed = TimeDelta::from_std(self.received.elapsed() + time);
        let elapsed = elapsed.unwrap_or(TimeDelta::MAX);
        self.read.checked_add_signed(elapsed).unwrap_or(self.read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_time_passes_with_the_own_clock() {
        let read = DateTime::from_timestamp(1_000, 0).unwrap();
        let clock = ServerClock::new(read);
        let later = clock.after(Duration::from_secs(2));
        assert!(later >= read + TimeDelta::seconds(2));
        assert!(later < read + TimeDelta::seconds(60));
    }
}
