//! The integration tests: one binary, a module per subject, against a real server.

mod support;
mod views;
