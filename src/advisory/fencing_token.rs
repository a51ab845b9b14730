//! The token that orders the acquisitions of monitored locks.

use std::fmt;
use std::io::Write;

use diesel::QueryResult;
use diesel::expression::AsExpression;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::serialize::{IsNull, Output, ToSql};
use diesel::sql_types::{Integer, Text};

use crate::session::query;

/// A number that rises with every acquisition of a monitored lock.
///
/// A session can lose its lock and not know it yet. If each write carries the token, and the
/// table refuses a token below the highest that it has seen, a late write of the former holder
/// changes nothing. See [When a lock is lost](crate::guide::locks#when-a-lock-is-lost).
///
/// The token is the timeline of the server and a transaction id. Tokens compare by the timeline
/// first. They rise across crashes, restarts and promotions, and together for all keys of a server.
///
/// The text of a token has 30 decimal digits. It sorts as the token does, in every collation, and
/// is a valid `numeric`. In a query, a token compares with a `text` column.
///
/// A token may fail to rise after `pg_upgrade`, after a restore from a dump, and if
/// two standbys are promoted of which the second has not heard of the first, as can happen with
/// asynchronous replication. Delete the stored tokens in these cases.
///
/// # Examples
///
/// ```
/// # include!("../../tests/support/doctest.rs");
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let mut conn = connection();
/// use diesel_pglock::{Error, LockMonitor, prelude::*};
///
/// let monitor = LockMonitor::new(database_url());
/// let mut tokens = Vec::new();
/// for _ in 0..2 {
///     let lock = conn.advisory("leader").monitored(&monitor);
///     tokens.push(lock.run(|_conn, held| Ok::<_, Error>(held.token()))?);
/// }
/// assert!(tokens[0] < tokens[1]);
/// assert!(tokens[0].to_string() < tokens[1].to_string());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, AsExpression)]
#[diesel(sql_type = Text)]
pub struct FencingToken {
    // Compared in this order.
    timeline: u32,
    xid: u64,
}

impl FencingToken {
    /// Returns the timeline of the server's WAL, which rises with each promotion of a standby.
    pub fn timeline(&self) -> u32 {
        self.timeline
    }

    /// Returns the 64-bit id of the transaction that made the token.
    #[doc(alias = "pg_current_xact_id")]
    pub fn xid(&self) -> u64 {
        self.xid
    }

    /// Reads the name of a WAL file, whose first eight digits are the timeline, and an `xid8`.
    pub(super) fn decode(wal_file: &str, xid: &str) -> diesel::deserialize::Result<Self> {
        let timeline = wal_file.get(..8).unwrap_or_default();
        Ok(Self {
            timeline: u32::from_str_radix(timeline, 16)?,
            xid: xid.parse()?,
        })
    }
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:010}{:020}", self.timeline, self.xid)
    }
}

impl ToSql<Text, Pg> for FencingToken {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> diesel::serialize::Result {
        write!(out, "{self}")?;
        Ok(IsNull::No)
    }
}

/// Serializes the text: JSON numbers of this size lose digits.
#[cfg(feature = "serde")]
impl serde::Serialize for FencingToken {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Commits a transaction of its own, and reads the backend, the name of the current WAL file, and
/// the transaction id.
///
/// A transaction that wrote nothing to the WAL does not wait for the disk when it commits, and the
/// server assigns its id again after a crash. Hence the message, and `synchronous_commit` for
/// this commit alone. As a single statement the transaction is never left open.
#[derive(Debug)]
pub(super) struct TakeFencingToken;

query!(TakeFencingToken => (Integer, Text, Text), (i32, String, String));

impl QueryFragment<Pg> for TakeFencingToken {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "SELECT pg_catalog.pg_backend_pid(), \
             pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), \
             pg_catalog.pg_current_xact_id()::pg_catalog.text, \
             pg_catalog.set_config('synchronous_commit', 'on', true), \
             pg_catalog.pg_logical_emit_message(true, 'pglock', ''::pg_catalog.text)",
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(timeline: u32, xid: u64) -> FencingToken {
        FencingToken { timeline, xid }
    }

    #[test]
    fn a_token_is_read_from_the_replies_of_the_server() {
        let read = FencingToken::decode("0000000A0000000000000003", "4294967999").unwrap();
        assert_eq!((read.timeline(), read.xid()), (10, 4_294_967_999));
        assert!(FencingToken::decode("", "7").is_err());
        assert!(FencingToken::decode("000000010000000000000003", "").is_err());
    }

    #[test]
    fn the_timeline_counts_before_the_transaction() {
        assert!(token(1, u64::MAX) < token(2, 3));
        assert!(token(2, 3) < token(2, 4));
    }

    #[test]
    fn the_text_sorts_as_the_token_does() {
        let tokens = [
            token(1, 9),
            token(1, 10),
            token(1, u64::MAX),
            token(9, 1),
            token(10, 0),
            token(u32::MAX, u64::MAX),
        ];
        let texts = tokens.map(|token| token.to_string());
        assert!(texts.is_sorted());
        assert!(texts.iter().all(|text| text.len() == 30));
    }
}
