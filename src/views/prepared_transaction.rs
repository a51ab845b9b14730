//! The prepared transactions: rows of `pg_prepared_xacts`.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::dsl::{AsSelect, Select};
use diesel::pg::Pg;
use diesel::prelude::*;

use super::expression::PreparedDuration;
use crate::fmt::{format_duration, quote_literal, single_line};
use crate::tables::pg_prepared_xacts;
use crate::types::LossyText;

/// A transaction that was prepared for a two-phase commit: a row of [`pg_prepared_xacts`][pg].
///
/// It has no session, so it cannot be cancelled or terminated. It keeps its locks until
/// `COMMIT PREPARED` or `ROLLBACK PREPARED` runs in its database.
///
/// [pg]: https://www.postgresql.org/docs/current/view-pg-prepared-xacts.html
#[derive(Clone, Debug, PartialEq, Queryable, Selectable)]
#[diesel(table_name = pg_prepared_xacts, check_for_backend(Pg))]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PreparedTransaction {
    /// The id of the transaction.
    ///
    /// One of its locks is on this id. Its other locks have the same
    /// [`virtual_transaction`](crate::PgLock::virtual_transaction) as that lock.
    #[diesel(column_name = transaction)]
    pub transaction_id: u32,
    /// The name that `PREPARE TRANSACTION` gave it.
    #[diesel(deserialize_as = LossyText<String>)]
    pub gid: String,
    /// The time at which it was prepared.
    pub prepared: DateTime<Utc>,
    /// The time since then, by the clock of the server.
    #[diesel(select_expression = PreparedDuration)]
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::fmt::seconds::of"))]
    pub duration: TimeDelta,
    /// The role that prepared it.
    #[diesel(deserialize_as = LossyText<String>)]
    pub owner: String,
    /// The name of its database.
    #[diesel(deserialize_as = LossyText<String>)]
    pub database: String,
}

/// The greatest length of the name of a role or a database in a line, in characters.
const MAX_NAME: usize = 30;

/// The query that [`PreparedTransaction::query`] returns.
pub type PreparedTransactionQuery =
    Select<pg_prepared_xacts::table, AsSelect<PreparedTransaction, Pg>>;

impl PreparedTransaction {
    /// Returns the statement that rolls it back, to type in its [`database`](Self::database).
    ///
    /// It contains no control characters, whatever the name contains.
    ///
    /// # Examples
    ///
    /// ```
    /// # include!("../../tests/support/doctest.rs");
    /// use diesel::prelude::*;
    /// use diesel_pglock::PreparedTransaction;
    ///
    /// # fn main() -> QueryResult<()> {
    /// # use diesel::connection::SimpleConnection;
    /// # let conn = &mut connection();
    /// conn.batch_execute("BEGIN; SELECT txid_current(); PREPARE TRANSACTION 'it''s left'")?;
    /// let left: PreparedTransaction = PreparedTransaction::query().first(conn)?;
    /// assert_eq!(left.rollback_statement(), "ROLLBACK PREPARED 'it''s left'");
    /// conn.batch_execute(&left.rollback_statement())?;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "ROLLBACK PREPARED")]
    pub fn rollback_statement(&self) -> String {
        format!("ROLLBACK PREPARED {}", self.name())
    }

    /// Returns whether both are the same transaction. Its name may be used again after its end.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        (self.transaction_id, self.prepared) == (other.transaction_id, other.prepared)
    }

    /// Returns its name, as a literal of SQL.
    pub(crate) fn name(&self) -> String {
        quote_literal(&self.gid)
    }

    /// Returns its owner, its database and its age, for a line.
    pub(crate) fn origin(&self) -> String {
        let name = |name: &str| single_line(name, MAX_NAME);
        let (owner, database) = (name(&self.owner), name(&self.database));
        let age = format_duration(self.duration);
        format!("of {owner} in database {database}, prepared {age} ago")
    }

    /// Reads `pg_prepared_xacts`: the prepared transactions of all databases.
    ///
    /// # Examples
    ///
    /// ```
    /// # include!("../../tests/support/doctest.rs");
    /// use diesel::prelude::*;
    /// use diesel_pglock::PreparedTransaction;
    /// use diesel_pglock::schema::pg_prepared_xacts;
    ///
    /// # fn main() -> QueryResult<()> {
    /// # use diesel::connection::SimpleConnection;
    /// # let conn = &mut connection();
    /// # let sql = format!("BEGIN; SELECT txid_current(); PREPARE TRANSACTION 'order {}'", std::process::id());
    /// # conn.batch_execute(&sql)?;
    /// let oldest: PreparedTransaction = PreparedTransaction::query()
    ///     .order_by(pg_prepared_xacts::prepared)
    ///     .first(conn)?;
    /// assert!(oldest.gid.starts_with("order"));
    /// # conn.batch_execute(&format!("ROLLBACK PREPARED 'order {}'", std::process::id()))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn query() -> PreparedTransactionQuery {
        pg_prepared_xacts::table.select(Self::as_select())
    }
}
