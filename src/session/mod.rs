//! One flow, two kinds of connection.
//!
//! A flow is an `async fn` over a [`Driver`]; it is written once, and runs on sync connections too,
//! whose futures are ready at once. Statements that several folders send are here as well.

mod action;
#[cfg(feature = "async")]
mod async_driver;
#[cfg(feature = "async")]
pub(crate) mod async_scope;
mod background;
#[cfg(all(feature = "async", feature = "migrations"))]
mod blocking_connection;
mod do_block;
mod driver;
mod end_on_drop;
mod identity;
mod scope;
mod statement;
mod sync_driver;
#[cfg(feature = "migrations")]
mod uncached;

pub(crate) use action::Action;
pub use action::Session;
#[cfg(feature = "async")]
pub(crate) use async_driver::AsyncDriver;
#[cfg(feature = "async")]
pub use async_scope::{AsyncClosure, AsyncFunc};
pub(crate) use background::BackgroundThread;
#[cfg(all(feature = "async", feature = "migrations"))]
pub use blocking_connection::OwnedAsyncConnection;
#[cfg(all(feature = "async", feature = "migrations"))]
pub(crate) use blocking_connection::{BlockingConnection, CancelOnDrop, SharedConnection};
pub(crate) use do_block::quote;
pub(crate) use driver::{ColumnsOf, Driver};
pub(crate) use end_on_drop::EndSessionOnDrop;
#[cfg(all(test, feature = "postgres"))]
pub(crate) use identity::Identify;
pub(crate) use identity::{IdentityColumns, OWN_IDENTITY, SessionIdentity};
pub(crate) use scope::{in_new_transaction, run_or_undo};
pub(crate) use statement::{
    ACQUIRED, BUSY, BackendPid, OUTCOME, Statement, TakeOutcome, command, query, render,
};
pub(crate) use sync_driver::{SyncDriver, run_ready};
#[cfg(feature = "migrations")]
pub(crate) use uncached::uncached;
