//! Soaks: random calls under random disturbances, and the state that they have to leave.
//!
//! Each soak is a folder with one test. The test is short; `cargo xtask soak NAME` sets the
//! variables that [`settings`] reads, and runs it for longer.

mod cancels;
mod journal;
mod locks;
mod settings;
