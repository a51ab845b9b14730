//! The integration tests: one binary, a module per subject, against a real server.

mod advisory;
mod lock_timeout;
mod support;
mod table_lock;
