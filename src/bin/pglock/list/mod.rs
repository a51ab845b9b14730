//! Lists locks, waits and the sessions that hold a table.

mod field;
mod filter;
pub mod locks;
pub mod log;
pub mod overview;
mod prepared;
mod relation;
mod row;
mod selection;
pub mod tree;
mod value;
pub mod who;

pub use field::{Field, fields};
pub use filter::{Filter, advisory_key};
pub use locks::ListArgs;
pub use log::LogArgs;
pub use overview::{client, has_hidden_activity, name};
pub use row::{Blocker, Row};
pub use selection::{Listing, Selection};
pub use tree::TreeArgs;
pub use who::WhoArgs;
