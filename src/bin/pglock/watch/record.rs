//! The lines of a recording, as `pglock watch --json` writes and `pglock report` reads them.
//!
//! The names are those of `pglock tree --json`. The length of a line is bounded: of very many
//! sessions, some are written, and all are counted.

use chrono::{DateTime, Utc};
use diesel_pglock::internal::without_passwords;
use diesel_pglock::{BlockKind, EpisodeAttributes, Wait, WaitNode};
use serde::{Deserialize, Serialize};

/// The number of direct blockers of a session that are written.
const MAX_BLOCKERS: usize = 5;

/// A line of a recording.
#[derive(Debug, Deserialize, Serialize)]
pub struct Record {
    pub event: Event,
    /// The time by the clock of the server.
    pub time: DateTime<Utc>,
    /// The version of the command that writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The reason why the connection was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub episode: Option<EpisodeRecord>,
    /// The longest wait, with the names of OpenTelemetry.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub attributes: Option<EpisodeAttributes>,
}

/// The event of a line.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The recording begins.
    Watching,
    /// An episode has started, or has passed the age of `--above`.
    Started,
    /// The roots or the waiters are others than before.
    Changed,
    Ended,
    /// The connection is lost.
    Lost,
    /// There is a connection again.
    Connected,
    /// The recording ends.
    Stopped,
}

/// An episode after the event.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct EpisodeRecord {
    pub id: u64,
    pub started: DateTime<Utc>,
    pub ended: Option<DateTime<Utc>>,
    /// Its duration so far, in seconds.
    pub duration: f64,
    /// The older episode in which its waits go on.
    pub merged_into: Option<u64>,
    pub deadlock: bool,
    pub root_count: usize,
    /// The roots, the most harmful first.
    pub roots: Vec<SessionRecord>,
    pub waiter_count: usize,
    /// The waiters, the longest wait first.
    pub waiters: Vec<SessionRecord>,
    /// The number of sessions that have waited in it.
    pub victim_count: usize,
    pub peak: PeakRecord,
}

/// The moment of the most waiters.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PeakRecord {
    pub time: DateTime<Utc>,
    pub waiters: usize,
    /// The graph of that moment; only in lines that start or end an episode, or after it has grown
    /// to twice its size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph: Option<GraphRecord>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct GraphRecord {
    pub nodes: Vec<SessionRecord>,
}

/// A session or a prepared transaction.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct SessionRecord {
    pub pid: Option<i32>,
    /// The name of a prepared transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<String>,
    /// The number of sessions that a root blocks; of a waiter, those that wait for what it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activity: Option<ActivityRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<WaitRecord>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct ActivityRecord {
    pub application_name: Option<String>,
    pub backend_type: Option<String>,
    pub user: Option<String>,
    pub database: Option<String>,
    pub state: Option<String>,
    pub xact_start: Option<DateTime<Utc>>,
    /// Left out in the list of the waiters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct WaitRecord {
    pub lock: LockRecord,
    /// Some of the direct blockers, hard ones first.
    pub blockers: Vec<BlockerRecord>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct LockRecord {
    pub lock_type: String,
    pub mode: String,
    /// The locked object in words.
    pub target: String,
    pub wait_start: Option<DateTime<Utc>>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct BlockerRecord {
    pub pid: Option<i32>,
    /// The name of a prepared transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<String>,
    pub kind: String,
}

impl Record {
    pub fn new(event: Event, time: DateTime<Utc>) -> Self {
        Self {
            event,
            time,
            version: None,
            error: None,
            episode: None,
            attributes: None,
        }
    }
}

impl SessionRecord {
    pub fn of(node: &WaitNode) -> Self {
        let prepared = node.prepared.as_ref().map(|it| ActivityRecord {
            user: Some(it.owner.clone()),
            database: Some(it.database.clone()),
            xact_start: Some(it.prepared),
            query: Some(it.rollback_statement()),
            ..ActivityRecord::default()
        });
        let text = |query: &String| without_passwords(query);
        let activity = node.activity.as_ref().map(|it| ActivityRecord {
            application_name: it.application_name.clone(),
            backend_type: it.backend_type.clone(),
            user: it.user.clone(),
            database: it.database.clone(),
            state: it.state.as_ref().map(ToString::to_string),
            xact_start: it.xact_start,
            query: it.query.as_ref().map(text),
        });
        Self {
            pid: node.pid,
            gid: node.gid.clone(),
            blocks: None,
            activity: prepared.or(activity),
            wait: node.wait.as_ref().map(WaitRecord::of),
        }
    }

    /// Returns true for another record of the same session.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.pid, &self.gid) == (other.pid, &other.gid)
    }

    /// Leaves the query out.
    pub fn without_query(mut self) -> Self {
        if let Some(activity) = &mut self.activity {
            activity.query = None;
        }
        self
    }

    pub fn blocking(mut self, count: usize) -> Self {
        self.blocks = Some(count);
        self
    }
}

impl WaitRecord {
    fn of(wait: &Wait) -> Self {
        let blockers = wait.blockers.iter().take(MAX_BLOCKERS);
        let blocker = |it: &diesel_pglock::WaitBlocker| BlockerRecord {
            pid: it.pid,
            gid: it.gid.clone(),
            kind: match it.kind {
                BlockKind::Hard => "hard".to_owned(),
                BlockKind::Soft => "soft".to_owned(),
            },
        };
        Self {
            lock: LockRecord {
                lock_type: wait.lock.lock_type.to_string(),
                mode: wait.lock.mode.to_string(),
                target: wait.lock.target().to_string(),
                wait_start: wait.lock.wait_start,
            },
            blockers: blockers.map(blocker).collect(),
        }
    }
}
