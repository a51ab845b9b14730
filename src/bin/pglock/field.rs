//! What a lock can be asked for: the words of `--filter`, `--attribute` and `--json`.

use std::fmt;

use diesel_pglock::PgActivity;

use crate::row::Row;
use crate::value::Value;

/// A property of a [`Row`].
pub struct Field {
    pub name: &'static str,
    pub kind: Kind,
    pub get: fn(&Row) -> Value,
}

/// How a field's values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Integer,
    Truth,
    Text,
    Mode,
    /// One of these, or one that a later server has.
    Word(&'static [&'static str]),
    Span,
    Moment,
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

macro_rules! field {
    ($name:expr, $kind:expr, $get:expr) => {
        Field {
            name: $name,
            kind: $kind,
            get: $get,
        }
    };
}

/// The fields of a session; `$of` finds it in the row.
macro_rules! activity {
    ($prefix:literal, $of:path) => {
        [
            field!(concat!($prefix, ".application"), Kind::Text, |row| $of(row)
                .and_then(|it| it.application_name.clone())
                .into()),
            field!(concat!($prefix, ".user"), Kind::Text, |row| $of(row)
                .and_then(|it| it.user.clone())
                .into()),
            field!(concat!($prefix, ".database"), Kind::Text, |row| $of(row)
                .and_then(|it| it.database.clone())
                .into()),
            field!(concat!($prefix, ".client"), Kind::Text, |row| $of(row)
                .and_then(|it| it.client_addr)
                .map(|it| it.to_string())
                .into()),
            field!(concat!($prefix, ".backend_type"), Kind::Text, |row| $of(
                row
            )
            .and_then(|it| it.backend_type.clone())
            .into()),
            field!(concat!($prefix, ".state"), Kind::Word(STATES), |row| $of(
                row
            )
            .and_then(|it| it.state.as_ref())
            .map(|it| it.to_string())
            .into()),
            field!(concat!($prefix, ".wait_event"), Kind::Text, |row| $of(row)
                .and_then(|it| it.wait_event.clone())
                .into()),
            field!(concat!($prefix, ".start"), Kind::Moment, |row| $of(row)
                .and_then(|it| it.backend_start)
                .into()),
            field!(concat!($prefix, ".duration"), Kind::Span, |row| $of(row)
                .and_then(|it| it.duration)
                .into()),
            field!(
                concat!($prefix, ".transaction_duration"),
                Kind::Span,
                |row| $of(row).and_then(|it| it.transaction_duration).into()
            ),
            field!(concat!($prefix, ".context"), Kind::Text, |row| $of(row)
                .and_then(PgActivity::context)
                .map(|it| it.to_string())
                .into()),
            field!(concat!($prefix, ".query"), Kind::Text, |row| $of(row)
                .and_then(|it| it.query.clone())
                .into()),
        ]
    };
}

static LOCK: [Field; 18] = [
    field!("pid", Kind::Integer, |row| row.lock.pid.into()),
    field!("prepared", Kind::Text, |row| row.prepared.clone().into()),
    field!("type", Kind::Word(TYPES), |row| row
        .lock
        .lock_type
        .as_str()
        .into()),
    field!("mode", Kind::Mode, |row| row.lock.mode.clone().into()),
    field!("granted", Kind::Truth, |row| row.lock.granted.into()),
    field!("fast_path", Kind::Truth, |row| row.lock.fast_path.into()),
    field!("wait_start", Kind::Moment, |row| row.lock.wait_start.into()),
    field!("wait_duration", Kind::Span, |row| row
        .lock
        .wait_duration
        .into()),
    field!("target", Kind::Text, |row| row
        .lock
        .target()
        .to_string()
        .into()),
    field!("database", Kind::Text, |row| row
        .lock
        .database
        .clone()
        .into()),
    field!("relation", Kind::Text, |row| row
        .lock
        .relation
        .as_ref()
        .map(|it| it.to_string())
        .into()),
    field!("relation_kind", Kind::Text, |row| row
        .lock
        .relation
        .as_ref()
        .map(|it| it.kind.to_string())
        .into()),
    field!("advisory_key", Kind::Text, |row| row
        .lock
        .advisory_key
        .map(|it| it.to_string())
        .into()),
    field!("page", Kind::Integer, |row| row.lock.page.into()),
    field!("tuple", Kind::Integer, |row| row.lock.tuple.into()),
    field!("transaction_id", Kind::Integer, |row| row
        .lock
        .transaction_id
        .into()),
    field!("virtual_xid", Kind::Text, |row| row
        .lock
        .virtual_xid
        .clone()
        .into()),
    field!("virtual_transaction", Kind::Text, |row| row
        .lock
        .virtual_transaction
        .clone()
        .into()),
];

static ACTIVITY: [Field; 12] = activity!("activity", waiting);

static BLOCKING_PID: [Field; 2] = [
    field!("blocking.pid", Kind::Integer, |row| row
        .blocker
        .as_ref()
        .map(|it| it.pid)
        .into()),
    field!("blocking.prepared", Kind::Text, |row| row
        .blocker
        .as_ref()
        .and_then(|it| it.prepared.clone())
        .into()),
];

static BLOCKING: [Field; 12] = activity!("blocking", blocking);

fn waiting(row: &Row) -> Option<&PgActivity> {
    row.lock.activity.as_ref()
}

fn blocking(row: &Row) -> Option<&PgActivity> {
    row.blocker.as_ref()?.activity.as_ref()
}

/// All fields.
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

    /// Whether only the rows of `--blocking` have it.
    pub fn is_blocking(&self) -> bool {
        self.name.starts_with("blocking.")
    }

    /// What stands above its column: `blocking.transaction_duration` is `BLOCKING TRANSACTION`.
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

// There is one of each, so its name says all.
impl PartialEq for Field {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// There is no such field.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownField(String);

impl fmt::Display for UnknownField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = fields().map(|field| field.name).collect();
        write!(
            f,
            "there is no field `{}`; there are {}",
            self.0,
            names.join(", ")
        )
    }
}
