//! The lists that users write by hand.

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::expression::SqlLiteral;
use diesel::sql_types::{Bool, Integer, Nullable, Oid, SmallInt, Text, Timestamptz};

/// The columns of a lock, with its relation.
type LockColumns = (
    Nullable<Integer>,
    Text,
    Text,
    Bool,
    Bool,
    Nullable<Timestamptz>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Oid>,
    Nullable<Integer>,
    Nullable<SmallInt>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Oid>,
    Nullable<Oid>,
    Nullable<SmallInt>,
    Nullable<Text>,
);

/// The columns of a session.
type SessionColumns = (
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Timestamptz>,
    Nullable<Timestamptz>,
);

type Lock = (
    Option<i32>,
    String,
    String,
    bool,
    bool,
    Option<DateTime<Utc>>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<u32>,
    Option<i32>,
    Option<i16>,
    Option<String>,
    Option<String>,
    Option<u32>,
    Option<u32>,
    Option<i16>,
    Option<String>,
);

type Session = (
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<DateTime<Utc>>,
    Option<DateTime<Utc>>,
);

/// A lock with its relation and its session: 25 columns.
pub type LockRow = (Lock, Session);

/// The columns of a wait, its session, and the session that blocks it.
type BlockColumns = (
    Nullable<Integer>,
    Text,
    Text,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    Integer,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
);

/// A wait with one of its blockers, and what users look at of both sessions: 12 columns.
pub type BlockRow = (
    Option<i32>,
    String,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    i32,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
);

const SESSION: &str =
    "a.usename::text, a.application_name, a.state, a.query, a.xact_start, a.backend_start";

const FROM: &str = "FROM pg_locks l LEFT JOIN pg_database d ON d.oid = l.database \
    LEFT JOIN pg_class c ON c.oid = l.relation LEFT JOIN pg_namespace n ON n.oid = c.relnamespace \
    LEFT JOIN pg_stat_activity a ON a.pid = l.pid";

const BLOCKS: &str = "SELECT l.pid, l.locktype, l.mode, \
    a.usename::text, a.application_name, a.state, a.query, \
    b.pid, s.usename::text, s.application_name, s.state, s.query \
    FROM pg_locks l CROSS JOIN LATERAL unnest(pg_blocking_pids(l.pid)) AS b(pid) \
    LEFT JOIN pg_stat_activity a ON a.pid = l.pid \
    LEFT JOIN pg_stat_activity s ON s.pid = b.pid WHERE NOT l.granted";

/// Selects all locks; 13 does not show the start of a wait.
pub fn locks_by_hand(version: u32) -> SqlLiteral<(LockColumns, SessionColumns)> {
    sql(&format!("SELECT {}, {SESSION} {FROM}", lock(version)))
}

/// Selects all waits with each of their blockers, and the sessions of both.
pub fn blocks_by_hand() -> SqlLiteral<BlockColumns> {
    sql(BLOCKS)
}

fn lock(version: u32) -> String {
    let wait_start = if version < 14 {
        "NULL::timestamptz"
    } else {
        "l.waitstart"
    };
    format!(
        "l.pid, l.locktype, l.mode, l.granted, l.fastpath, {wait_start}, d.datname::text, \
         n.nspname::text, c.relname::text, c.relkind::text, l.relation, l.page, l.tuple, \
         l.virtualxid, l.transactionid::text, l.classid, l.objid, l.objsubid, l.virtualtransaction"
    )
}
