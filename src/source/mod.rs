//! Where a second connection comes from: a URL, a pool or a closure.

#[cfg(feature = "async")]
mod async_watcher_source;
#[cfg(any(feature = "postgres", feature = "async"))]
mod conninfo;
#[cfg(any(feature = "postgres", feature = "async"))]
mod redact;
mod watcher_source;

#[cfg(feature = "async")]
pub use async_watcher_source::AsyncWatcherSource;
#[cfg(feature = "cli")]
pub use conninfo::url;
#[cfg(feature = "cli")]
pub use redact::redact_conninfo;
pub use watcher_source::WatcherSource;
