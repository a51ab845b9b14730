//! The attributes of an episode, named as OpenTelemetry names them.

use chrono::{DateTime, Utc};

use super::episode::Episode;
use super::node::{Wait, WaitNode};
use crate::fmt::without_passwords;
use crate::views::PgActivity;

/// Declares the attributes with the names that they have for programs.
macro_rules! attributes {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $name:literal,)*) => {
        /// The longest wait of an [`Episode`], with the names of OpenTelemetry.
        ///
        /// With the feature `serde`, names and forms are those of a blocked query from the
        /// PostgreSQL receiver of the [OpenTelemetry Collector][receiver]; unknown values are
        /// left out. With the feature `tracing`, the events of a tracker have the same names.
        ///
        /// [receiver]: https://github.com/open-telemetry/opentelemetry-collector-contrib/tree/main/receiver/postgresqlreceiver
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize))]
        #[non_exhaustive]
        pub struct EpisodeAttributes {
            $(
                $(#[$doc])*
                #[cfg_attr(feature = "serde", serde(
                    rename = $name,
                    skip_serializing_if = "Option::is_none"
                ))]
                pub $field: Option<$type>,
            )*
        }
    };
}

attributes! {
    /// Always `postgresql`.
    system_name: &'static str = "db.system.name",
    /// The database of the waiter.
    namespace: String = "db.namespace",
    /// The role of the waiter.
    user_name: String = "user.name",
    /// The query of the waiter; the literal after the word `PASSWORD` is removed.
    query_text: String = "db.query.text",
    /// The process id of the waiter.
    pid: i32 = "postgresql.pid",
    /// The name of the client that waits.
    application_name: String = "postgresql.application_name",
    /// The state of the waiter.
    state: String = "postgresql.state",
    /// The start of the query of the waiter.
    query_start: DateTime<Utc> = "postgresql.query_start",
    /// The direct blockers of the waiter, as PostgreSQL writes an array: `{26068,26070}`.
    blocking_pids: String = "postgresql.blocking.pids",
    /// The mode that the waiter asks for.
    lock_mode: String = "postgresql.blocking.lock.mode",
    /// The type of the locked object.
    lock_type: String = "postgresql.blocking.lock.type",
    /// The relation that is locked, or that has the locked row.
    lock_relation: String = "postgresql.blocking.lock.relation",
    /// The start of the wait.
    wait_start: DateTime<Utc> = "postgresql.blocking.start_time",
    /// The duration of the wait, in whole seconds.
    wait_duration: i64 = "postgresql.blocking.wait_duration",
    /// The start of the transaction of the first blocker.
    blocker_start: DateTime<Utc> = "postgresql.blocking.transaction.start_time",
}

/// The number of direct blockers that are listed, at most.
const MAX_BLOCKERS: usize = 100;

impl EpisodeAttributes {
    pub(super) fn of(episode: &Episode) -> Self {
        let mut attributes = Self {
            system_name: Some("postgresql"),
            ..Self::default()
        };
        let Some(waiter) = episode.waiters().next() else {
            return attributes;
        };
        attributes.pid = waiter.pid;
        if let Some(activity) = &waiter.activity {
            attributes.add_activity(activity);
        }
        if let Some(wait) = &waiter.wait {
            attributes.add_wait(wait);
        }
        attributes.blocker_start = blocker_start(episode, waiter);
        attributes
    }

    fn add_activity(&mut self, activity: &PgActivity) {
        self.namespace.clone_from(&activity.database);
        self.user_name.clone_from(&activity.user);
        self.query_text = activity.query.as_deref().map(without_passwords);
        self.application_name.clone_from(&activity.application_name);
        self.state = activity.state.as_ref().map(ToString::to_string);
        self.query_start = activity.query_start;
    }

    fn add_wait(&mut self, wait: &Wait) {
        let pids = wait.blockers.iter().take(MAX_BLOCKERS);
        // As in `pg_blocking_pids`, a prepared transaction is 0.
        let pids = pids.map(|it| it.pid.unwrap_or_default().to_string());
        let pids: Vec<String> = pids.collect();
        self.blocking_pids = Some(format!("{{{}}}", pids.join(",")));
        self.lock_mode = Some(wait.lock.mode.to_string());
        self.lock_type = Some(wait.lock.lock_type.to_string());
        self.lock_relation = wait.lock.relation.as_ref().map(ToString::to_string);
        self.wait_start = wait.lock.wait_start;
        self.wait_duration = wait.lock.wait_duration.map(|it| it.num_seconds());
    }
}

fn blocker_start(episode: &Episode, waiter: &WaitNode) -> Option<DateTime<Utc>> {
    let blocker = episode.graph().blockers_of(waiter.pid?).next()?;
    let prepared = blocker.prepared.as_ref().map(|it| it.prepared);
    prepared.or_else(|| blocker.activity.as_ref()?.xact_start)
}
