//! The TCP limits of a connection from a URL.
//!
//! A connection whose network is silent ends after two hours by the default of most systems. For a
//! watcher that is too long.

/// The limits in the words of libpq. They end a silent connection after about ten seconds.
#[cfg(feature = "postgres")]
pub(super) const LIBPQ: [(&str, &str); 4] = [
    ("keepalives_idle", "4"),
    ("keepalives_interval", "2"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "10000"), // milliseconds
];

/// The same limits in the words of tokio-postgres.
#[cfg(feature = "async")]
pub(super) const TOKIO_POSTGRES: [(&str, &str); 4] = [
    ("keepalives_idle", "4"),
    ("keepalives_interval", "2"),
    ("keepalives_retries", "3"),
    ("tcp_user_timeout", "10"), // seconds
];
