//! Diesel `table!`s over the lock views and catalogs of PostgreSQL; public as `diesel_pglock::schema`.

/// SQL types that Diesel has no name for.
pub mod sql_types {
    /// The id of a transaction: `xid`.
    #[derive(
        Debug, Clone, Copy, Default, diesel::query_builder::QueryId, diesel::sql_types::SqlType,
    )]
    #[diesel(postgres_type(oid = 28, array_oid = 1011))]
    pub struct Xid;
}

diesel::table! {
    use diesel::sql_types::*;
    use super::sql_types::*;

    /// The held and awaited locks: [`pg_locks`](https://www.postgresql.org/docs/current/view-pg-locks.html).
    pg_catalog.pg_locks (pid) {
        /// The type of the locked object, such as `relation`.
        locktype -> Text,
        /// The database of the locked object; 0 for a shared object, NULL for transactions.
        database -> Nullable<Oid>,
        /// The locked relation, or the relation of the locked page or row.
        relation -> Nullable<Oid>,
        /// The locked page, or the page of the locked row.
        page -> Nullable<Integer>,
        /// The number of the locked row on its page.
        tuple -> Nullable<SmallInt>,
        /// The locked virtual transaction.
        virtualxid -> Nullable<Text>,
        /// The locked transaction.
        transactionid -> Nullable<Xid>,
        /// The catalog of the locked object, or the first half of an advisory key.
        classid -> Nullable<Oid>,
        /// The locked object, or the second half of an advisory key.
        objid -> Nullable<Oid>,
        /// The column of the locked object, or the key space of an advisory key.
        objsubid -> Nullable<SmallInt>,
        /// The virtual transaction that holds or awaits the lock.
        virtualtransaction -> Text,
        /// The process id of the session that holds or awaits the lock; NULL for a prepared transaction.
        pid -> Nullable<Integer>,
        /// The mode, such as `AccessShareLock`.
        mode -> Text,
        /// True for a held lock, false for an awaited lock.
        granted -> Bool,
        /// True if the lock was acquired on the fast path.
        fastpath -> Bool,
        /// The start of the wait; from PostgreSQL 14 on. [`WaitStart`](crate::expression::WaitStart) works on 13 too.
        waitstart -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use super::sql_types::*;

    /// The sessions and their activity: [`pg_stat_activity`](https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-ACTIVITY-VIEW).
    ///
    /// A role reads the details of its own sessions only; members of `pg_read_all_stats` read all.
    pg_catalog.pg_stat_activity (pid) {
        /// The `oid` of the database of the session.
        datid -> Nullable<Oid>,
        /// The name of the database of the session.
        datname -> Nullable<Text>,
        /// The process id of the session.
        pid -> Integer,
        /// The leader of the parallel query that the session works for.
        leader_pid -> Nullable<Integer>,
        /// The `oid` of the role that logged in.
        usesysid -> Nullable<Oid>,
        /// The name of the role that logged in.
        usename -> Nullable<Text>,
        /// The name that the client gave itself.
        application_name -> Nullable<Text>,
        /// The address of the client; NULL on a Unix socket.
        client_addr -> Nullable<Inet>,
        /// The host name of that address, if `log_hostname` is on.
        client_hostname -> Nullable<Text>,
        /// The port of the client; -1 on a Unix socket.
        client_port -> Nullable<Integer>,
        /// The start of the session.
        backend_start -> Nullable<Timestamptz>,
        /// The start of the open transaction.
        xact_start -> Nullable<Timestamptz>,
        /// The start of the running query, or else of the last query.
        query_start -> Nullable<Timestamptz>,
        /// The time of the last change of `state`.
        state_change -> Nullable<Timestamptz>,
        /// The type of event that the session waits for; `Lock` for a lock.
        wait_event_type -> Nullable<Text>,
        /// The event that the session waits for.
        wait_event -> Nullable<Text>,
        /// The state of the session, such as `idle in transaction`.
        state -> Nullable<Text>,
        /// The id of the open transaction, if it has written.
        backend_xid -> Nullable<Xid>,
        /// The oldest transaction that the snapshot of the session sees as running.
        backend_xmin -> Nullable<Xid>,
        /// The identifier of the query; from PostgreSQL 14 on. [`QueryIdentifier`](crate::expression::QueryIdentifier) works on 13 too.
        query_id -> Nullable<BigInt>,
        /// The running query, or else the last query.
        query -> Nullable<Text>,
        /// The type of the process, such as `client backend`.
        backend_type -> Nullable<Text>,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    /// The relations: tables, indexes, views and others: [`pg_class`](https://www.postgresql.org/docs/current/catalog-pg-class.html).
    pg_catalog.pg_class (oid) {
        /// The `oid` of the relation.
        oid -> Oid,
        /// The name, without the schema.
        relname -> Text,
        /// The `oid` of the schema.
        relnamespace -> Oid,
        /// The kind of relation, such as `r` for a table.
        relkind -> CChar,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    /// The schemas: [`pg_namespace`](https://www.postgresql.org/docs/current/catalog-pg-namespace.html).
    pg_catalog.pg_namespace (oid) {
        /// The `oid` of the schema.
        oid -> Oid,
        /// The name of the schema.
        nspname -> Text,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    /// The databases: [`pg_database`](https://www.postgresql.org/docs/current/catalog-pg-database.html).
    pg_catalog.pg_database (oid) {
        /// The `oid` of the database.
        oid -> Oid,
        /// The name of the database.
        datname -> Text,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use super::sql_types::*;

    /// The prepared transactions: [`pg_prepared_xacts`](https://www.postgresql.org/docs/current/view-pg-prepared-xacts.html).
    pg_catalog.pg_prepared_xacts (gid) {
        /// The id of the transaction.
        transaction -> Xid,
        /// The name that `PREPARE TRANSACTION` gave it.
        gid -> Text,
        /// The time at which it was prepared.
        prepared -> Timestamptz,
        /// The role that prepared it.
        owner -> Text,
        /// The name of its database.
        database -> Text,
    }
}

mod alias {
    #![allow(missing_docs)] // the macro takes no documentation
    use super::pg_stat_activity;

    diesel::alias! {
        pub const blocking_activity: Alias<BlockingActivity> = pg_stat_activity as blocking_activity;
    }
}

#[doc(no_inline)]
pub use alias::{BlockingActivity, blocking_activity};

diesel::allow_tables_to_appear_in_same_query!(
    pg_locks,
    pg_stat_activity,
    pg_class,
    pg_namespace,
    pg_database,
    pg_prepared_xacts,
);

diesel::table! {
    /// The log of signals: the victims of prioritized sessions, with sender and reason.
    ///
    /// The migrations of this crate, `diesel_pglock::MIGRATIONS`, create the table.
    pglock.signal_log (id) {
        /// The number of the entry, in the order of writing.
        id -> BigInt,
        /// The time at which the signal was sent.
        sent_at -> Timestamptz,
        /// The kind of signal: `cancel` or `terminate`.
        kind -> Text,
        /// The outcome: `sent`, `gone`, or `denied` with the reason.
        outcome -> Text,
        /// The process id of the victim.
        pid -> Integer,
        /// The start of the victim's session. With `pid` it identifies the session.
        backend_start -> Nullable<Timestamptz>,
        /// The role of the victim.
        username -> Nullable<Text>,
        /// The name that the victim's client gave itself.
        application_name -> Nullable<Text>,
        /// The state of the victim.
        state -> Nullable<Text>,
        /// The running query of the victim, or else its last query.
        query -> Nullable<Text>,
        /// The age of the victim's transaction, in seconds.
        transaction_seconds -> Nullable<Double>,
        /// The locks of the victim, each as `mode on object`.
        held -> Array<Text>,
        /// The duration of the block, in seconds.
        blocked_seconds -> Double,
        /// The process id of the prioritized session.
        blocked_pid -> Integer,
        /// The process id of the watcher, which sent the signal.
        sender_pid -> Integer,
        /// The role of the watcher.
        sender_username -> Text,
        /// The name that the watcher's client gave itself.
        sender_application_name -> Text,
        /// The database of the victim.
        database -> Nullable<Text>,
        /// The address of the victim's client; NULL on a Unix socket.
        client_addr -> Nullable<Text>,
        /// The lock that was awaited, as `mode on object`.
        awaited -> Nullable<Text>,
        /// The sessions from the prioritized one to the victim; each one blocked the one before it.
        wait_path -> Nullable<Array<Integer>>,
        /// The query of the prioritized session.
        blocked_query -> Nullable<Text>,
        /// The migration that was prioritized.
        work -> Nullable<Text>,
    }
}
