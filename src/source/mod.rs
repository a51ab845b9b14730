//! Opens second connections: from a URL, a pool or a closure.

#[cfg(feature = "async")]
mod async_watcher_source;
#[cfg(feature = "bb8")]
mod bb8;
#[cfg(all(feature = "async", feature = "migrations"))]
mod blocking_source;
#[cfg(any(feature = "postgres", feature = "async"))]
mod conninfo;
#[cfg(feature = "deadpool")]
mod deadpool;
#[cfg(feature = "mobc")]
mod mobc;
#[cfg(feature = "r2d2")]
mod r2d2;
#[cfg(any(feature = "postgres", feature = "async"))]
mod redact;
#[cfg(any(feature = "postgres", feature = "async"))]
mod secrets;
#[cfg(any(feature = "postgres", feature = "async"))]
mod tcp_limits;
#[cfg(any(feature = "postgres", feature = "async"))]
mod url;
mod watcher_source;

#[cfg(feature = "async")]
pub use async_watcher_source::AsyncWatcherSource;
#[cfg(all(feature = "async", feature = "migrations"))]
pub(crate) use blocking_source::BlockingSource;
#[cfg(feature = "cli")]
pub use conninfo::{url, with_database, with_defaults, with_settings};
#[cfg(feature = "cli")]
pub use redact::{redact_conninfo, redact_text};
pub use watcher_source::{Connector, WatcherSource};
