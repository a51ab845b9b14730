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

use crate::error::Error;
use crate::fmt::with_sources;
use crate::session::Driver;
use crate::session::query;
use crate::session::run_ready;
use crate::session::uncached;

/// Keeps the id of the transaction that it is itself in a setting.
///
/// As a text without parameters it is one transaction, however statements are prepared.
const NOTE: &str = "SELECT pg_catalog.set_config('diesel_pglock.transaction', \
    (SELECT l.virtualtransaction FROM pg_catalog.pg_locks AS l \
     WHERE l.locktype OPERATOR(pg_catalog.=) 'virtualxid' \
     AND l.virtualxid OPERATOR(pg_catalog.=) l.virtualtransaction \
     AND l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()), false)";

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
    /// Counts the transactions of an attempt that has failed, from the one before it.
    pub(crate) fn since<C>(conn: &mut C, before: Option<&str>) -> Self
    where
        C: Connection<Backend = Pg> + LoadConnection,
    {
        // The transactions before and after the attempt follow its own, or are the same.
        let expected = uncached(conn).depth().map(|depth| match depth {
            0 => 2,
            _ => 0,
        });
        let extent = expected.map_err(Into::into).and_then(|expected| {
            conn.batch_execute(NOTE)?;
            let after = run_ready(uncached(conn).ask(NotedTransaction))?;
            Ok(Self::between(before, after.as_deref(), expected))
        });
        extent.unwrap_or_else(|error: Error| Self::Unknown(with_sources(&error)))
    }

    /// Compares the ids of two transactions, such as `3/17` and `3/19`, by their expected distance.
    fn between(before: Option<&str>, after: Option<&str>, expected: u32) -> Self {
        let (before, after) = (before.and_then(parse), after.and_then(parse));
        let (Some(before), Some(after)) = (before, after) else {
            return Self::Unknown("the session forgot the count".to_owned());
        };
        if before.0 != after.0 {
            return Self::Unknown("another session answered".to_owned());
        }
        match after.1.checked_sub(before.1) == Some(expected) {
            true => Self::OneTransaction,
            false => Self::Several,
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

/// Reads the noted transaction.
#[derive(Debug)]
struct NotedTransaction;

query!(NotedTransaction => Nullable<Text>, Option<String>);

impl QueryFragment<Pg> for NotedTransaction {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT pg_catalog.current_setting('diesel_pglock.transaction', true)");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_transaction_in_one_session_may_be_repeated() {
        let between = |before, after, expected| Extent::between(Some(before), after, expected);
        assert_eq!(between("3/17", Some("3/19"), 2), Extent::OneTransaction);
        assert_eq!(between("3/17", Some("3/20"), 2), Extent::Several);
        assert_eq!(between("3/17", Some("3/18"), 2), Extent::Several);
        assert_eq!(between("3/17", Some("3/17"), 0), Extent::OneTransaction);
        assert_eq!(between("3/17", Some("3/18"), 0), Extent::Several);
        for unknown in [None, Some("3"), Some("4/19"), Some("3/x")] {
            assert!(matches!(between("3/17", unknown, 2), Extent::Unknown(_)));
        }
        assert!(matches!(
            Extent::between(None, Some("3/19"), 2),
            Extent::Unknown(_)
        ));
    }
}
