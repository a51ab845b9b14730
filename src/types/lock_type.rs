//! The kind of a locked thing.

use super::text_enum::text_enum;

text_enum! {
    /// The kind of the locked thing: the column `pg_locks.locktype`.
    ///
    /// See [the view's page][pg] and [the table of wait events][events].
    ///
    /// [pg]: https://www.postgresql.org/docs/current/view-pg-locks.html
    /// [events]: https://www.postgresql.org/docs/current/monitoring-stats.html#WAIT-EVENT-LOCK-TABLE
    ///
    /// # Examples
    ///
    /// ```
    /// use diesel_pglock::LockType;
    ///
    /// assert_eq!(LockType::from("transactionid"), LockType::TransactionId);
    /// assert_eq!(LockType::from("tomorrow"), LockType::Other("tomorrow".into()));
    /// assert_eq!(LockType::Advisory.to_string(), "advisory");
    /// ```
    LockType {
        /// A table, index, sequence or the like.
        Relation = "relation",
        /// The right to make a relation longer.
        Extend = "extend",
        /// The right to move a database's oldest unfrozen transaction on.
        FrozenId = "frozenid",
        /// A page of a relation.
        Page = "page",
        /// A row: held by the session that is next in the queue for it.
        Tuple = "tuple",
        /// A transaction: awaited by sessions that need a row which it changed.
        TransactionId = "transactionid",
        /// A virtual transaction: awaited by `CREATE INDEX CONCURRENTLY` and its kin.
        VirtualXid = "virtualxid",
        /// A speculative insertion: `INSERT … ON CONFLICT` on both sides.
        SpecToken = "spectoken",
        /// An object other than a relation, such as a role, a schema or a database.
        Object = "object",
        /// A lock of the former module `contrib/userlock`.
        UserLock = "userlock",
        /// An advisory lock.
        Advisory = "advisory",
        /// A transaction that a logical replication worker applies.
        ApplyTransaction = "applytransaction",
    }
}
