//! The messages from a measuring process to the printing one: a line of JSON each.

use serde::{Deserialize, Serialize};

use crate::row::Row;

#[derive(Debug, Serialize, Deserialize)]
pub enum Message {
    /// The full version of the server.
    Server(String),
    /// The work that is measured now.
    Started(String),
    Row(Box<Row>),
    Note(String),
    /// A work that could not be measured, and the reason.
    Failed(String),
}
