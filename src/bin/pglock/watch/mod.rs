//! The history of blocking, as it happens.

mod command;
mod follower;
mod poller;
mod printer;
mod record;
mod recorder;

pub use command::{WatchArgs, run};
pub use record::{BlockerRecord, EpisodeRecord, Event, Record, SessionRecord};
