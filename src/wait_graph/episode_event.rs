//! The events of an [`EpisodeTracker`](crate::EpisodeTracker).

use super::episode::Episode;
use super::episode_attributes::EpisodeAttributes;

/// A change of the blocking on a server, with the episode after it.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(tag = "event", rename_all = "snake_case"))]
#[non_exhaustive]
pub enum EpisodeEvent {
    /// Sessions wait that belong to no earlier episode.
    Started(Episode),
    /// The roots or the waiters are others than before.
    Changed(Episode),
    /// No session waits any more, or the episode goes on as part of an older one:
    /// [`Episode::merged_into`].
    Ended(Episode),
}

impl EpisodeEvent {
    /// Returns the episode.
    pub fn episode(&self) -> &Episode {
        match self {
            Self::Started(episode) | Self::Changed(episode) | Self::Ended(episode) => episode,
        }
    }

    /// Reports the event to `tracing`, with the names of OpenTelemetry.
    pub(super) fn trace(&self) {
        if cfg!(feature = "tracing") {
            let episode = self.episode();
            let attributes = EpisodeAttributes::of(episode);
            match self {
                Self::Started(_) => started(episode, &attributes),
                Self::Changed(_) => changed(episode, &attributes),
                Self::Ended(_) => ended(episode, &attributes),
            }
        }
    }
}

/// Defines a function that emits an event: its name and its level are constants.
macro_rules! event {
    ($name:ident, $level:ident, $message:literal) => {
        #[cfg_attr(not(feature = "tracing"), allow(unused_variables))]
        fn $name(episode: &Episode, attributes: &EpisodeAttributes) {
            #[cfg(feature = "tracing")]
            tracing::event!(
                tracing::Level::$level,
                "pglock.episode.id" = episode.id,
                "pglock.episode.duration" = episode.duration().as_seconds_f64(),
                "pglock.episode.roots" = episode.graph().roots().count(),
                "pglock.episode.victims" = episode.victims.len(),
                "pglock.episode.peak" = episode.peak.waiters,
                "pglock.episode.deadlock" = episode.deadlock,
                "db.system.name" = attributes.system_name,
                "db.namespace" = attributes.namespace,
                "db.query.text" = attributes.query_text,
                "user.name" = attributes.user_name,
                "postgresql.pid" = attributes.pid,
                "postgresql.application_name" = attributes.application_name,
                "postgresql.state" = attributes.state,
                "postgresql.blocking.pids" = attributes.blocking_pids,
                "postgresql.blocking.lock.mode" = attributes.lock_mode,
                "postgresql.blocking.lock.type" = attributes.lock_type,
                "postgresql.blocking.lock.relation" = attributes.lock_relation,
                "postgresql.blocking.wait_duration" = attributes.wait_duration,
                $message
            );
        }
    };
}

event!(started, INFO, "sessions are blocked");
event!(
    changed,
    DEBUG,
    "other sessions are blocked, or others block"
);
event!(ended, INFO, "sessions are blocked no more");
