//! Reaches a database: options, `pglock.toml` and the connection.

pub mod config;
mod connection;
mod limit;
mod other_databases;
mod pooler;
mod reconnecting;
mod redact;
mod settings;
mod settings_file;
mod waits;

pub use config::ConfigArgs;
pub use connection::{ConnectionArgs, Database, Environment};
pub use limit::{LimitArgs, limited};
pub use other_databases::OtherDatabases;
pub use pooler::refuse_pooler;
pub use reconnecting::Reconnecting;
pub use redact::redact_arguments;
pub use settings::{ActiveConfig, Settings};
pub use settings_file::error_at;
pub use waits::Waits;
