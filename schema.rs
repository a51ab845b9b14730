//! Diesel `table!`s over PostgreSQL's lock views and catalogs; public as `diesel_pglock::schema`.

/// SQL types that Diesel has no name for.
pub mod sql_types {
    /// A transaction's number, `xid`.
    #[derive(
        Debug, Clone, Copy, Default, diesel::query_builder::QueryId, diesel::sql_types::SqlType,
    )]
    #[diesel(postgres_type(oid = 28, array_oid = 1011))]
    pub struct Xid;
}

diesel::table! {
    use diesel::sql_types::*;
    use super::sql_types::*;

    /// The locks held and awaited: [`pg_locks`](https://www.postgresql.org/docs/current/view-pg-locks.html).
    pg_catalog.pg_locks (pid) {
        /// What kind of thing is locked.
        locktype -> Text,
        /// The database of the locked thing; 0 for a shared one, NULL for transactions.
        database -> Nullable<Oid>,
        /// The locked relation, or the relation of the locked page or row.
        relation -> Nullable<Oid>,
        /// The locked page, or the page of the locked row.
        page -> Nullable<Integer>,
        /// The locked row's place on its page.
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
        /// The session that holds or awaits the lock; NULL for a prepared transaction.
        pid -> Nullable<Integer>,
        /// The mode, such as `AccessShareLock`.
        mode -> Text,
        /// Whether the lock is held; else it is awaited.
        granted -> Bool,
        /// Whether the lock was taken on the fast path.
        fastpath -> Bool,
        /// When the wait began; from PostgreSQL 14 on. [`WaitStart`](crate::expression::WaitStart) is there on 13 too.
        waitstart -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use super::sql_types::*;

    /// The sessions and what they do: [`pg_stat_activity`](https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-ACTIVITY-VIEW).
    ///
    /// A role sees the details of its own sessions alone, unless it is a member of `pg_read_all_stats`.
    pg_catalog.pg_stat_activity (pid) {
        /// The database of the session.
        datid -> Nullable<Oid>,
        /// The name of the database of the session.
        datname -> Nullable<Text>,
        /// The session.
        pid -> Integer,
        /// The leader of the parallel query that the session works for.
        leader_pid -> Nullable<Integer>,
        /// The role that logged in.
        usesysid -> Nullable<Oid>,
        /// The name of the role that logged in.
        usename -> Nullable<Text>,
        /// What the client calls itself.
        application_name -> Nullable<Text>,
        /// Where the client is; NULL on a unix socket.
        client_addr -> Nullable<Inet>,
        /// The name of the client's address, where `log_hostname` is on.
        client_hostname -> Nullable<Text>,
        /// The client's port; -1 on a unix socket.
        client_port -> Nullable<Integer>,
        /// When the session began.
        backend_start -> Nullable<Timestamptz>,
        /// When the open transaction began.
        xact_start -> Nullable<Timestamptz>,
        /// When the running query, or else the last one, began.
        query_start -> Nullable<Timestamptz>,
        /// When `state` last changed.
        state_change -> Nullable<Timestamptz>,
        /// What kind of thing the session waits for; `Lock` for a lock.
        wait_event_type -> Nullable<Text>,
        /// What the session waits for.
        wait_event -> Nullable<Text>,
        /// What the session does, such as `idle in transaction`.
        state -> Nullable<Text>,
        /// The session's transaction, once it has written.
        backend_xid -> Nullable<Xid>,
        /// The oldest transaction that the session's snapshot sees as running.
        backend_xmin -> Nullable<Xid>,
        /// The query's number, from PostgreSQL 14 on. [`QueryIdentifier`](crate::expression::QueryIdentifier) is there on 13 too.
        query_id -> Nullable<BigInt>,
        /// The running query, or else the last one.
        query -> Nullable<Text>,
        /// What kind of process it is, such as `client backend`.
        backend_type -> Nullable<Text>,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    /// Tables, indexes, views and the like: [`pg_class`](https://www.postgresql.org/docs/current/catalog-pg-class.html).
    pg_catalog.pg_class (oid) {
        /// The relation.
        oid -> Oid,
        /// Its name, without its schema.
        relname -> Text,
        /// Its schema.
        relnamespace -> Oid,
        /// What it is.
        relkind -> CChar,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    /// Schemas: [`pg_namespace`](https://www.postgresql.org/docs/current/catalog-pg-namespace.html).
    pg_catalog.pg_namespace (oid) {
        /// The schema.
        oid -> Oid,
        /// Its name.
        nspname -> Text,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    /// Databases: [`pg_database`](https://www.postgresql.org/docs/current/catalog-pg-database.html).
    pg_catalog.pg_database (oid) {
        /// The database.
        oid -> Oid,
        /// Its name.
        datname -> Text,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use super::sql_types::*;

    /// Prepared transactions: [`pg_prepared_xacts`](https://www.postgresql.org/docs/current/view-pg-prepared-xacts.html).
    pg_catalog.pg_prepared_xacts (gid) {
        /// The transaction.
        transaction -> Xid,
        /// The name it was prepared under.
        gid -> Text,
        /// When it was prepared.
        prepared -> Timestamptz,
        /// Who prepared it.
        owner -> Text,
        /// In which database.
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
    /// Who was cancelled or terminated to let prioritized code through, by whom and
    /// why. The crate's own migrations make it: `diesel_pglock::MIGRATIONS`.
    pglock.signal_log (id) {
        /// The entry's number, in the order of writing.
        id -> BigInt,
        /// When the signal was sent.
        sent_at -> Timestamptz,
        /// `cancel` or `terminate`.
        kind -> Text,
        /// `sent`, `gone`, or `denied` and why.
        outcome -> Text,
        /// The session that was signalled.
        pid -> Integer,
        /// When that session began; together with `pid` it names it for good.
        backend_start -> Nullable<Timestamptz>,
        /// The role it had logged in as.
        username -> Nullable<Text>,
        /// What its client called itself.
        application_name -> Nullable<Text>,
        /// What it did.
        state -> Nullable<Text>,
        /// Its running query, or else its last one.
        query -> Nullable<Text>,
        /// How long its transaction had been open.
        transaction_seconds -> Nullable<Double>,
        /// The locks it held, each as `mode on thing`.
        held -> Array<Text>,
        /// How long it had been in the way.
        blocked_seconds -> Double,
        /// The session that was let through.
        blocked_pid -> Integer,
        /// The session that sent the signal.
        sender_pid -> Integer,
        /// The role that sent it.
        sender_username -> Text,
        /// What its client calls itself.
        sender_application_name -> Text,
    }
}
