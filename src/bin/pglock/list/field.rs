//! The fields of a lock: the names in `--filter`, `--attribute` and `--json`.

use std::fmt;

use diesel_pglock::PgActivity;

use super::row::Row;
use super::value::Value;
use crate::output::clean;

/// A property of a [`Row`].
pub struct Field {
    pub name: &'static str,
    pub kind: Kind,
    pub get: fn(&Row) -> Value,
}

/// The type of a field's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Integer,
    Bool,
    Text,
    Mode,
    /// A word of a list; later servers may add words.
    Word(&'static [&'static str]),
    Duration,
    Timestamp,
}

const TYPES: &[&str] = &[
    "relation",
    "extend",
    "frozenid",
    "page",
    "tuple",
    "transactionid",
    "virtualxid",
    "spectoken",
    "object",
    "userlock",
    "advisory",
    "applytransaction",
];

const STATES: &[&str] = &[
    "starting",
    "active",
    "idle",
    "idle in transaction",
    "idle in transaction (aborted)",
    "fastpath function call",
    "disabled",
];

macro_rules! fields {
    ($($name:literal, $kind:expr => |$row:ident| $get:expr,)*) => {
        [$(Field { name: $name, kind: $kind, get: |$row| $get.into() },)*]
    };
}

macro_rules! fields_of {
    ($prefix:literal, $find:path: $($name:literal, $kind:expr => |$it:ident| $get:expr,)*) => {
        [$(Field {
            name: concat!($prefix, ".", $name),
            kind: $kind,
            get: |row| $find(row).and_then(|$it| $get).into(),
        },)*]
    };
}

/// The fields of a session that `$find` takes from the row.
macro_rules! activity {
    ($prefix:literal, $find:path) => {
        fields_of! { $prefix, $find:
            "application", Kind::Text => |it| it.application_name.clone(),
            "user", Kind::Text => |it| it.user.clone(),
            "database", Kind::Text => |it| it.database.clone(),
            "client", Kind::Text => |it| Some(it.client_addr?.to_string()),
            "backend_type", Kind::Text => |it| it.backend_type.clone(),
            "state", Kind::Word(STATES) => |it| Some(it.state.as_ref()?.to_string()),
            "wait_event", Kind::Text => |it| it.wait_event.clone(),
            "start", Kind::Timestamp => |it| it.backend_start,
            "duration", Kind::Duration => |it| it.duration,
            "transaction_duration", Kind::Duration => |it| it.transaction_duration,
            "context", Kind::Text => |it| Some(it.context()?.to_string()),
            "query", Kind::Text => |it| it.query.clone(),
        }
    };
}

static LOCK: [Field; 18] = fields! {
    "pid", Kind::Integer => |row| row.lock.pid,
    "prepared", Kind::Text => |row| row.prepared.clone(),
    "type", Kind::Word(TYPES) => |row| row.lock.lock_type.as_str(),
    "mode", Kind::Mode => |row| row.lock.mode.clone(),
    "granted", Kind::Bool => |row| row.lock.granted,
    "fast_path", Kind::Bool => |row| row.lock.fast_path,
    "wait_start", Kind::Timestamp => |row| row.lock.wait_start,
    "wait_duration", Kind::Duration => |row| row.lock.wait_duration,
    "target", Kind::Text => |row| row.lock.target().to_string(),
    "database", Kind::Text => |row| row.lock.database.clone(),
    "relation", Kind::Text => |row| row.lock.relation.as_ref().map(ToString::to_string),
    "relation_kind", Kind::Text => |row| row.lock.relation.as_ref().map(|it| it.kind.to_string()),
    "advisory_key", Kind::Text => |row| row.lock.advisory_key.map(|it| it.to_string()),
    "page", Kind::Integer => |row| row.lock.page,
    "tuple", Kind::Integer => |row| row.lock.tuple,
    "transaction_id", Kind::Integer => |row| row.lock.transaction_id,
    "virtual_xid", Kind::Text => |row| row.lock.virtual_xid.clone(),
    "virtual_transaction", Kind::Text => |row| row.lock.virtual_transaction.clone(),
};

static ACTIVITY: [Field; 12] = activity!("activity", waiting);

static BLOCKING_PID: [Field; 2] = fields! {
    "blocking.pid", Kind::Integer => |row| row.blocker.as_ref().map(|it| it.pid),
    "blocking.prepared", Kind::Text => |row| row.blocker.as_ref().and_then(|it| it.prepared.clone()),
};

static BLOCKING: [Field; 12] = activity!("blocking", blocking);

fn waiting(row: &Row) -> Option<&PgActivity> {
    row.lock.activity.as_ref()
}

fn blocking(row: &Row) -> Option<&PgActivity> {
    row.blocker.as_ref()?.activity.as_ref()
}

/// Returns all fields in the order of the documentation.
pub fn fields() -> impl Iterator<Item = &'static Field> {
    LOCK.iter()
        .chain(&ACTIVITY)
        .chain(&BLOCKING_PID)
        .chain(&BLOCKING)
}

impl Field {
    pub fn named(name: &str) -> Result<&'static Self, UnknownField> {
        let found = fields().find(|field| field.name == name);
        found.ok_or_else(|| UnknownField(name.to_owned()))
    }

    /// Returns the text of a cell: a prepared transaction in the place of its pid, and the
    /// type of a server process in the place of its client's name.
    pub fn cell(&self, row: &Row) -> String {
        let process = |activity: Option<&PgActivity>| activity?.server_process().map(clean);
        match (self.name, (self.get)(row)) {
            ("pid", Value::None) | ("blocking.pid", Value::Integer(0)) => "prepared".to_owned(),
            ("activity.application", value) if value.is_none() => {
                process(waiting(row)).unwrap_or_default()
            }
            ("blocking.application", value) if value.is_none() => {
                process(blocking(row)).unwrap_or_default()
            }
            (_, value) => value.cell(),
        }
    }

    /// Returns true for fields that need `--blocking`.
    pub fn is_blocking(&self) -> bool {
        self.name.starts_with("blocking.")
    }

    /// Returns the title of its column, such as `BLOCKING TRANSACTION`.
    pub fn title(&self) -> String {
        let name = self.name.strip_prefix("activity.").unwrap_or(self.name);
        let name = name.strip_suffix("_duration").unwrap_or(name);
        name.replace(['.', '_'], " ").to_uppercase()
    }
}

impl fmt::Debug for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

// Names are unique.
impl PartialEq for Field {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Field {}

/// The name of a field that does not exist.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownField(String);

impl fmt::Display for UnknownField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = fields().map(|field| field.name).collect();
        let (unknown, known) = (&self.0, names.join(", "));
        write!(f, "unknown field `{unknown}`; the fields are {known}")
    }
}
