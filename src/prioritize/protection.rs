use std::fmt;

use crate::views::PgActivity;

/// Why a session in the way is spared, whatever the [policy](crate::Policy) says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Protection {
    /// It sends the server's log to a replica.
    Walsender,
    /// It is an autovacuum that prevents a transaction wraparound, or may be for all that can
    /// be seen: it would start over, with less time left.
    Wraparound,
    /// It serves no client, and what it does is not to be seen by this role.
    UnknownProcess,
    /// It waits for its synchronous standby. Its commit is done, and the client would never
    /// learn of it.
    SynchronousStandby,
    /// It may wait for its synchronous standby: the server has one, and this role lacks the
    /// privilege to see what the session waits for, which `pg_read_all_stats` gives.
    MaybeSynchronousStandby,
    /// It is prioritized too, maybe to run a migration. Two such sessions take their turns as
    /// they lock: by the server's queues, its deadlock detection, and their lock timeouts.
    Prioritized,
}

impl Protection {
    /// The reason to spare a session; `has_standby`: whether commits wait for one at all.
    pub(crate) fn of(activity: &PgActivity, has_standby: bool) -> Option<Self> {
        let query = activity.query.as_deref().unwrap_or_default();
        match activity.backend_type.as_deref() {
            Some("walsender") => Some(Self::Walsender),
            Some("autovacuum worker") if !is_ordinary_vacuum(query) => Some(Self::Wraparound),
            Some(_) => waits_for_standby(activity).then_some(Self::SynchronousStandby),
            // This role lacks the privilege to see what it is. Only a session has a user.
            None if activity.user.is_none() => Some(Self::UnknownProcess),
            None => has_standby.then_some(Self::MaybeSynchronousStandby),
        }
    }
}

fn waits_for_standby(activity: &PgActivity) -> bool {
    activity.wait_event.as_deref() == Some("SyncRep")
}

/// Whether a worker's text shows that it may be ended, which PostgreSQL does itself with
/// an ordinary one. It is missing without `track_activities`, and may be cut where
/// `track_activity_query_size` is at its least.
fn is_ordinary_vacuum(query: &str) -> bool {
    const LEAST_SIZE: usize = 100;
    let is_whole = query.len() < LEAST_SIZE - 1;
    query.starts_with("autovacuum: ") && is_whole && !query.ends_with("(to prevent wraparound)")
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Walsender => "it feeds a replica",
            Self::Wraparound => "it may prevent a transaction wraparound",
            Self::UnknownProcess => "it is a process of the server that this role cannot see",
            Self::SynchronousStandby => "it waits for its synchronous standby",
            Self::MaybeSynchronousStandby => {
                "it may wait for its synchronous standby, which this role cannot see"
            }
            Self::Prioritized => "it is another prioritized session",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vacuum_may_be_ended_when_it_is_known_to_be_an_ordinary_one() {
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
