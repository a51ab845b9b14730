//! The transactions of an attempt at a migration: only exactly one may be repeated.
//!
//! The server counts the transactions of a session: the local part of its virtual transaction id
//! rises by one with each. A statement inside the attempt's own transaction would keep that from
//! setting its isolation level, so the count is read before and after it.

use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{Nullable, Text};
use diesel::{Connection, QueryResult};

use crate::error::Result;
use crate::fmt::with_sources;
use crate::session::Driver;
use crate::session::query;
use crate::session::run_ready;
use crate::session::uncached;

/// Appends to a setting, which has `$before`, the id of the transaction that it is itself.
///
/// As a text without parameters it is one transaction, however statements are prepared.
macro_rules! note_transaction {
    ($before:literal) => {
        concat!(
            "SELECT pg_catalog.set_config('diesel_pglock.transactions', pg_catalog.concat(",
            $before,
            ", ' ', (SELECT l.virtualtransaction FROM pg_catalog.pg_locks AS l \
             WHERE l.locktype OPERATOR(pg_catalog.=) 'virtualxid' \
             AND l.virtualxid OPERATOR(pg_catalog.=) l.virtualtransaction \
             AND l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid())), false)"
        )
    };
}

const NOTE_BEFORE: &str = note_transaction!("''");
const NOTE_AFTER: &str =
    note_transaction!("pg_catalog.current_setting('diesel_pglock.transactions', true)");

/// The transactions of an attempt, by the server's count.
#[derive(Debug, PartialEq)]
pub(crate) enum Extent {
    /// It did not begin.
    Nothing,
    OneTransaction,
    Several,
    /// It left nothing but invalid indexes, which were repaired.
    Repaired,
    Unknown(String),
}

impl Extent {
    /// Runs an attempt, and counts its transactions if it fails.
    pub(crate) fn measure<C, T, E>(
        &mut self,
        conn: &mut C,
        attempt: impl FnOnce(&mut C) -> Result<T, E>,
    ) -> Result<T, E>
    where
        C: Connection<Backend = Pg> + LoadConnection,
    {
        let depth = uncached(conn).depth().unwrap_or_default();
        // Nothing else may be sent in between.
        let noted = conn.batch_execute(NOTE_BEFORE);
        let result = attempt(conn);
        if result.is_err() {
            // The transactions of the notes and of the attempt follow each other, or are one.
            let expected = if depth > 0 { 0 } else { 2 };
            let extent = noted.map_err(Into::into);
            let extent = extent.and_then(|()| Self::read(conn, expected));
            *self = extent.unwrap_or_else(|error| Self::Unknown(with_sources(&error)));
        }
        result
    }

    fn read<C>(conn: &mut C, expected: u32) -> Result<Self>
    where
        C: Connection<Backend = Pg> + LoadConnection,
    {
        conn.batch_execute(NOTE_AFTER)?;
        let noted = run_ready(uncached(conn).ask(NotedTransactions))?;
        Ok(Self::between(&noted.unwrap_or_default(), expected))
    }

    /// Compares the ids of two transactions, such as ` 3/17 3/19`, by their expected distance.
    fn between(noted: &str, expected: u32) -> Self {
        let ids: Option<Vec<_>> = noted.split_whitespace().map(parse).collect();
        match ids.as_deref() {
            Some([before, after]) if before.0 != after.0 => {
                Self::Unknown("another session answered".to_owned())
            }
            Some([before, after]) if after.1.checked_sub(before.1) == Some(expected) => {
                Self::OneTransaction
            }
            Some([_, _]) => Self::Several,
            _ => Self::Unknown("the session forgot the count".to_owned()),
        }
    }

    /// Returns the reason why the attempt must not be repeated; `None` if it may be.
    pub(crate) fn refusal(&self) -> Option<String> {
        match self {
            Self::Nothing | Self::OneTransaction | Self::Repaired => None,
            Self::Several => Some(
                "it was more than one transaction, and a part of it may be committed".to_owned(),
            ),
            Self::Unknown(why) => Some(format!(
                "it is not known whether it was one transaction: {why}"
            )),
        }
    }
}

/// Splits an id into the session's part and the transaction's.
fn parse(id: &str) -> Option<(&str, u32)> {
    let (session, transaction) = id.split_once('/')?;
    Some((session, transaction.parse().ok()?))
}

/// Reads the noted transactions.
#[derive(Debug)]
struct NotedTransactions;

query!(NotedTransactions => Nullable<Text>, Option<String>);

impl QueryFragment<Pg> for NotedTransactions {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT pg_catalog.current_setting('diesel_pglock.transactions', true)");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_transaction_in_one_session_may_be_repeated() {
        assert_eq!(Extent::between(" 3/17 3/19", 2), Extent::OneTransaction);
        assert_eq!(Extent::between(" 3/17 3/20", 2), Extent::Several);
        assert_eq!(Extent::between(" 3/17 3/18", 2), Extent::Several);
        assert_eq!(Extent::between(" 3/17 3/17", 0), Extent::OneTransaction);
        assert_eq!(Extent::between(" 3/17 3/18", 0), Extent::Several);
        for unknown in ["", " 3/17", " 3/17 4/19", " 3/x 3/19", " 3/1 3/2 3/3"] {
            assert!(matches!(Extent::between(unknown, 2), Extent::Unknown(_)));
        }
    }
}
