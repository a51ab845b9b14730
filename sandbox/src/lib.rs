//! Throwaway PostgreSQL servers for the demo, the tests and the benches.
//!
//! A [`Sandbox`] is a server with data in a temporary directory, a unix socket and a
//! loopback port. It ends with the value, or with the process that owns it, even if that
//! is killed with `SIGKILL`. Its data is neither kept nor synced to disk.
//!
//! ```
//! use pglock_sandbox::Sandbox;
//!
//! let server = Sandbox::builder().setting("max_connections", "20").start()?;
//! assert!(server.url().ends_with("/postgres"));
//! assert!(server.version() >= 13);
//! # Ok::<(), pglock_sandbox::SandboxError>(())
//! ```

mod account;
mod binaries;
mod builder;
mod directory;
mod error;
mod pgbouncer;
mod port;
mod postmaster;
mod sandbox;
mod settings;
mod supervisor;
mod url;

pub use account::is_root;
pub use binaries::find_postgres;
pub use builder::SandboxBuilder;
pub use error::SandboxError;
pub use pgbouncer::{PgBouncer, find_pgbouncer};
pub use sandbox::Sandbox;
pub use url::with_database;
