//! The columns of the rows of this folder, read without a catalog.
//!
//! A session may lock a catalog, as `VACUUM FULL pg_class` does. The views name relations, and a
//! statement waits then even for the definitions of the views themselves. Functions do not.

use super::sql_macro::{decoded_query, optional, since, utf8_query, visible_query};

/// The columns of a [`PgLock`](super::PgLock) from the lock `l`, up to its activity.
pub(crate) const NAMELESS_LOCK: &str = concat!(
    "l.pid, l.locktype, l.mode, l.granted, l.fastpath, ",
    optional!("l", "waitstart", "timestamptz"),
    ", ",
    since!(optional!("l", "waitstart", "timestamptz")),
    ", NULL, l.database, NULL, NULL, NULL, NULL, l.relation, l.locktype, l.classid, \
    l.objid, l.objsubid, l.page, l.tuple, l.virtualxid, l.transactionid, l.classid, l.objid, \
    l.objsubid, NULL, l.virtualtransaction"
);

/// The columns of a missing [`PgActivity`](super::PgActivity).
pub(crate) const NO_ACTIVITY: &str = "NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, \
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL";

/// Names a database from the caches of the server.
macro_rules! database_name {
    ($oid:literal) => {
        concat!(
            "(SELECT o.object_names[1] \
             FROM pg_catalog.pg_identify_object_as_address(1262::pg_catalog.oid, ",
            $oid,
            ", 0) AS o)"
        )
    };
}

/// The columns of a [`PgActivity`](super::PgActivity) from the session `a`, a row of
/// `pg_stat_get_activity`.
///
/// The names of its role and its database come from the caches of the server. `spare` and policies
/// decide by them.
pub(crate) const NAMELESS_ACTIVITY: &str = concat!(
    "a.pid, a.leader_pid, ",
    database_name!("a.datid"),
    ", pg_catalog.pg_get_userbyid(a.usesysid), a.application_name, a.client_addr, \
    a.client_hostname, a.client_port, a.backend_type, a.backend_start, a.xact_start, \
    a.query_start, a.state_change, a.state, a.wait_event_type, a.wait_event, a.backend_xid, \
    a.backend_xmin, ",
    optional!("a", "query_id", "int8"),
    ", ",
    utf8_query!(),
    ", ",
    since!("a.query_start"),
    ", ",
    since!("a.xact_start")
);

/// The columns of a [`PreparedTransaction`](super::PreparedTransaction) from the transaction
/// `x`, a row of `pg_prepared_xact`.
pub(crate) const NAMELESS_PREPARED: &str = concat!(
    "x.transaction, x.gid, x.prepared, ",
    since!("x.prepared"),
    ", pg_catalog.pg_get_userbyid(x.ownerid), COALESCE(",
    database_name!("x.dbid"),
    ", '')"
);
