//! The state of a session.

use super::text_enum::text_enum;

text_enum! {
    /// The state of a session: the column `pg_stat_activity.state`.
    ///
    /// # Examples
    ///
    /// ```
    /// use diesel_pglock::BackendState;
    ///
    /// let state = BackendState::from("idle in transaction");
    /// assert_eq!(state, BackendState::IdleInTransaction);
    /// assert!(state.is_idle_in_transaction());
    /// ```
    BackendState {
        /// It has a new connection and no user yet; from PostgreSQL 18 on.
        Starting = "starting",
        /// It runs a query, or waits for a lock in one.
        Active = "active",
        /// It waits for its client, outside a transaction.
        Idle = "idle",
        /// It waits for its client inside a transaction, and keeps that transaction's locks.
        IdleInTransaction = "idle in transaction",
        /// The same after an error; it keeps the locks until the client rolls back.
        IdleInTransactionAborted = "idle in transaction (aborted)",
        /// It runs a function for `PQfn`.
        FastpathFunctionCall = "fastpath function call",
        /// It does not say: `track_activities` is off.
        Disabled = "disabled",
    }
}

impl BackendState {
    /// Returns `true` if the session waits for its client with a transaction open.
    ///
    /// [Cancelling](crate::SignalKind::Cancel) changes nothing there; only terminating does.
    pub fn is_idle_in_transaction(&self) -> bool {
        matches!(
            self,
            Self::IdleInTransaction | Self::IdleInTransactionAborted
        )
    }
}
