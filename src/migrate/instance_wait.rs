//! A wait for the migration lock, which another instance holds.

use std::fmt;
use std::time::Duration;

use chrono::TimeDelta;

use crate::fmt::{backquoted, format_duration};
use crate::views::{HeldBy, PgLock};

/// A wait for another instance, which holds the migration lock.
///
/// `Display` shows it in one line.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InstanceWait {
    /// The time that this instance has waited.
    pub waited: Duration,
    /// The migration lock, with the session that holds it and its activity.
    ///
    /// Empty if it was released in this moment.
    pub holders: Vec<PgLock>,
    /// The name of the first migration that is not applied yet: the other instance runs it, if
    /// it has the same migrations.
    ///
    /// `None` if there is none, if this instance reverts migrations, or if the history cannot be
    /// read at once.
    pub next_migration: Option<String>,
}

impl fmt::Display for InstanceWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "waiting for another instance")?;
        if self.waited.as_secs() > 0 {
            let waited = TimeDelta::from_std(self.waited).unwrap_or(TimeDelta::MAX);
            write!(f, " for {}", format_duration(waited))?;
        }
        write!(f, "{}", HeldBy(&self.holders))?;
        match &self.next_migration {
            Some(name) => write!(f, "; the next migration is {}", backquoted(name, 80)),
            None => Ok(()),
        }
    }
}
