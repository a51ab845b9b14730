//! The fields of a lock: the names in `--filter`, `--columns` and `--json`.

use std::fmt;

use chrono::TimeDelta;
use diesel_pglock::{LockMode, PgActivity, PreparedTransaction};

use super::row::Row;
use super::value::Value;
use crate::output::{Column, clean, clean_lines, clean_query};

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
    /// The name of a relation, with or without its schema and quotes.
    Relation,
    /// The key of an advisory lock: a number, a pair, or the name that it was made from.
    Key,
    /// The address of a client.
    Address,
}

impl Kind {
    /// Returns true for texts, of which a part can be compared and shown.
    pub fn is_text(self) -> bool {
        matches!(
            self,
            Self::Text | Self::Relation | Self::Key | Self::Address
        )
    }
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

/// The fields whose columns are left out last, the most important first.
const IMPORTANT: [&str; 15] = [
    "blocking.pid",
    "pid",
    "blocking.blocks",
    "target",
    "wait_duration",
    "blocking.application_name",
    "activity.application_name",
    "blocking.query",
    "activity.query",
    "mode",
    "blocking.transaction_duration",
    "activity.transaction_duration",
    "blocking.state",
    "activity.state",
    "granted",
];

/// The last part of names, and its short form.
const SHORT_NAMES: [(&str, &str); 5] = [
    ("lock_type", "type"),
    ("gid", "prepared"),
    ("application_name", "application"),
    ("client_addr", "client"),
    ("query_start", "start"),
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
            "application_name", Kind::Text => |it| it.activity?.application_name.clone(),
            "user", Kind::Text => |it| it.user(),
            "database", Kind::Text => |it| it.database(),
            "client_addr", Kind::Address => |it| Some(it.activity?.client_addr?.to_string()),
            "backend_type", Kind::Text => |it| it.activity?.backend_type.clone(),
            "state", Kind::Word(STATES) => |it| Some(it.activity?.state.as_ref()?.to_string()),
            "wait_event", Kind::Text => |it| it.activity?.wait_event.clone(),
            "backend_start", Kind::Timestamp => |it| it.activity?.backend_start,
            "query_start", Kind::Timestamp => |it| it.activity?.query_start,
            "duration", Kind::Duration => |it| it.activity?.duration,
            "transaction_duration", Kind::Duration => |it| it.transaction_duration(),
            "context", Kind::Text => |it| Some(it.activity?.context()?.to_string()),
            "query", Kind::Text => |it| it.activity?.query.clone(),
        }
    };
}

static LOCK: [Field; 19] = fields! {
    "pid", Kind::Integer => |row| row.lock.pid,
    "gid", Kind::Text => |row| row.prepared.as_ref().map(|it| it.gid.clone()),
    "lock_type", Kind::Word(TYPES) => |row| row.lock.lock_type.as_str(),
    "mode", Kind::Mode => |row| row.lock.mode.clone(),
    "granted", Kind::Bool => |row| row.lock.granted,
    "fast_path", Kind::Bool => |row| row.lock.fast_path,
    "wait_start", Kind::Timestamp => |row| row.lock.wait_start,
    "wait_duration", Kind::Duration => |row| row.lock.wait_duration,
    "target", Kind::Text => |row| row.lock.target().to_string(),
    "database", Kind::Text => |row| row.lock.database.clone(),
    "relation", Kind::Relation => |row| row.lock.relation.as_ref().map(Value::relation),
    "relation_kind", Kind::Text => |row| row.lock.relation.as_ref().map(|it| it.kind.to_string()),
    "advisory_key", Kind::Key => |row| row.lock.advisory_key,
    "object", Kind::Text => |row| row.lock.object.clone(),
    "page", Kind::Integer => |row| row.lock.page,
    "tuple", Kind::Integer => |row| row.lock.tuple,
    "transaction_id", Kind::Integer => |row| row.lock.transaction_id,
    "virtual_xid", Kind::Text => |row| row.lock.virtual_xid.clone(),
    "virtual_transaction", Kind::Text => |row| row.lock.virtual_transaction.clone(),
};

static ACTIVITY: [Field; 13] = activity!("activity", waiting);

static BLOCKING_PID: [Field; 3] = fields! {
    "blocking.pid", Kind::Integer => |row| row.blocker.as_ref().map(|it| it.pid),
    "blocking.gid", Kind::Text => |row| {
        row.blocker.as_ref().and_then(|it| Some(it.prepared.as_ref()?.gid.clone()))
    },
    "blocking.blocks", Kind::Integer => |row| {
        row.blocker.as_ref().and_then(|it| i64::try_from(it.blocks).ok())
    },
};

static BLOCKING: [Field; 13] = activity!("blocking", blocking);

/// A session, or the prepared transaction in its place.
#[derive(Clone, Copy)]
struct Session<'r> {
    activity: Option<&'r PgActivity>,
    prepared: Option<&'r PreparedTransaction>,
}

impl Session<'_> {
    fn user(&self) -> Option<String> {
        let owner = self.prepared.map(|it| it.owner.clone());
        owner.or_else(|| self.activity?.user.clone())
    }

    fn database(&self) -> Option<String> {
        let database = self.prepared.map(|it| it.database.clone());
        database.or_else(|| self.activity?.database.clone())
    }

    fn transaction_duration(&self) -> Option<TimeDelta> {
        let age = self.prepared.map(|it| it.duration);
        age.or_else(|| self.activity?.transaction_duration)
    }
}

fn waiting(row: &Row) -> Option<Session<'_>> {
    Some(Session {
        activity: row.lock.activity.as_ref(),
        prepared: row.prepared.as_ref(),
    })
}

fn blocking(row: &Row) -> Option<Session<'_>> {
    let blocker = row.blocker.as_ref()?;
    Some(Session {
        activity: blocker.activity.as_ref(),
        prepared: blocker.prepared.as_ref(),
    })
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
        let is_named = |field: &&Self| field.name == name || field.short_name() == name;
        let found = fields().find(is_named);
        found.ok_or_else(|| UnknownField(name.to_owned()))
    }

    /// Returns the name without what the title of a column needs not: options accept it too.
    ///
    /// The full names are those of the library's types, which JSON has everywhere.
    pub fn short_name(&self) -> String {
        let (outer, inner) = self
            .name
            .split_at(self.name.rfind('.').map_or(0, |dot| dot + 1));
        let short = SHORT_NAMES.iter().find(|(name, _)| *name == inner);
        format!("{outer}{}", short.map_or(inner, |(_, short)| short))
    }

    /// Returns the text of a cell: a prepared transaction in the place of its pid, its name
    /// in the place of its client's, and the type of a server process in the same place.
    pub fn cell(&self, row: &Row) -> String {
        let name = |session: Option<Session<'_>>| match session {
            Some(Session {
                prepared: Some(prepared),
                ..
            }) => clean(&prepared.gid),
            Some(Session {
                activity: Some(activity),
                ..
            }) => activity.server_process().map(clean).unwrap_or_default(),
            _ => String::new(),
        };
        match (self.name, (self.get)(row)) {
            ("pid", Value::None) if row.lock.mode == LockMode::SiReadLock => "ended".to_owned(),
            ("pid", Value::None) | ("blocking.pid", Value::Integer(0)) => "prepared".to_owned(),
            ("activity.application_name", value) if value.is_none() => name(waiting(row)),
            ("blocking.application_name", value) if value.is_none() => name(blocking(row)),
            (_, Value::Text(query)) if self.is_query() => clean_query(&query),
            (_, value) => value.cell(),
        }
    }

    /// Returns the text of an expanded row, which keeps the lines of a query.
    pub fn lines(&self, row: &Row) -> String {
        match (self.get)(row) {
            Value::Text(query) if self.is_query() => clean_lines(&query),
            _ => self.cell(row),
        }
    }

    fn is_query(&self) -> bool {
        self.name.ends_with(".query")
    }

    /// Returns true for fields that need `--blocking`.
    pub fn is_blocking(&self) -> bool {
        self.name.starts_with("blocking.")
    }

    /// Returns its column: what identifies, what is awaited and since when matter most.
    pub fn column(&self) -> Column {
        let rank = IMPORTANT.iter().position(|name| *name == self.name);
        Column {
            title: self.title(),
            rank: rank.unwrap_or(IMPORTANT.len()),
            is_text: self.kind.is_text(),
        }
    }

    /// Returns the title of its column, such as `BLOCKER` and `ITS TRANSACTION`.
    pub fn title(&self) -> String {
        let name = self.short_name();
        let name = name.strip_prefix("activity.").unwrap_or(&name);
        let name = match name.split_once('.') {
            Some(("blocking", "pid")) => "blocker".to_owned(),
            Some(("blocking", "blocks")) => "blocks".to_owned(),
            Some(("blocking", name)) => format!("its {name}"),
            _ => name.to_owned(),
        };
        let name = name.strip_suffix("_duration").unwrap_or(&name);
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
