//! The sessions that are never signalled.

use std::fmt;

use crate::views::PgActivity;

/// A reason to spare a blocker, whatever the [policy](crate::Policy) decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Protection {
    /// The session sends the server's log to a replica.
    Walsender,
    /// The session is an autovacuum that prevents a transaction wraparound, or that this role
    /// cannot distinguish from one. It would start again, with less time left.
    Wraparound,
    /// The process serves no client, and this role lacks the privilege to read its type.
    UnknownProcess,
    /// The session waits for its synchronous standby. Its commit is done, and its client would
    /// not learn of it.
    SynchronousStandby,
    /// The session may wait for its synchronous standby. The server has one, and this role
    /// lacks the privilege to read wait events, which `pg_read_all_stats` grants.
    MaybeSynchronousStandby,
    /// The session is prioritized too, perhaps for a migration. Two such sessions take turns
    /// by the server's queues, its deadlock detection, and their lock timeouts.
    Prioritized,
    /// The session builds an index concurrently, or this role lacks the privilege to read what
    /// it builds. The work of hours would be lost, and an invalid index left behind.
    ConcurrentIndex,
    /// The session belongs to `pg_dump`, by its application name. See
    /// [`Prioritizer::spare_pg_dump`](crate::Prioritizer::spare_pg_dump).
    PgDump,
    /// The prioritizer's own [`spare`](crate::Prioritizer::spare) selects the session.
    Chosen,
}

impl Protection {
    /// Returns the reason to spare a session. `has_standby` is true if commits wait for a standby.
    pub(crate) fn of(activity: &PgActivity, has_standby: bool) -> Option<Self> {
        let query = activity.query.as_deref().unwrap_or_default();
        match activity.backend_type.as_deref() {
            Some("walsender") => Some(Self::Walsender),
            Some("autovacuum worker") if !is_ordinary_vacuum(query) => Some(Self::Wraparound),
            Some(_) => waits_for_standby(activity).then_some(Self::SynchronousStandby),
            // This role lacks the privilege to read the type. Only a session has a user.
            None if activity.user.is_none() => Some(Self::UnknownProcess),
            None => has_standby.then_some(Self::MaybeSynchronousStandby),
        }
    }
}

fn waits_for_standby(activity: &PgActivity) -> bool {
    activity.wait_event.as_deref() == Some("SyncRep")
}

/// Returns whether a worker's query text shows an ordinary vacuum.
///
/// PostgreSQL itself cancels an ordinary vacuum that blocks a session. The text is missing
/// without `track_activities`, and may be cut at the minimum of `track_activity_query_size`.
fn is_ordinary_vacuum(query: &str) -> bool {
    const MIN_QUERY_SIZE: usize = 100;
    let is_whole = query.len() < MIN_QUERY_SIZE - 1;
    query.starts_with("autovacuum: ") && is_whole && !query.ends_with("(to prevent wraparound)")
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Walsender => "it sends the log to a replica",
            Self::Wraparound => "it may prevent a transaction wraparound",
            Self::UnknownProcess => "it is a server process whose type this role lacks the privilege to read",
            Self::SynchronousStandby => "it waits for its synchronous standby",
            Self::MaybeSynchronousStandby => {
                "it may wait for its synchronous standby; this role lacks the privilege to read wait events"
            }
            Self::Prioritized => "it is another prioritized session",
            Self::ConcurrentIndex => "it may build an index concurrently",
            Self::PgDump => "it belongs to pg_dump",
            Self::Chosen => "the prioritizer was told to spare it",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vacuum_is_ordinary_only_if_its_whole_text_shows_it() {
        assert!(is_ordinary_vacuum("autovacuum: VACUUM public.users"));
        assert!(is_ordinary_vacuum("autovacuum: ANALYZE public.users"));
        let wraparound = "autovacuum: VACUUM public.users (to prevent wraparound)";
        assert!(!is_ordinary_vacuum(wraparound));
        assert!(!is_ordinary_vacuum(""));
        assert!(!is_ordinary_vacuum("<insufficient privilege>"));
        let cut = &format!("autovacuum: VACUUM public.{}", "long".repeat(30))[..99];
        assert!(!is_ordinary_vacuum(cut));
    }
}
