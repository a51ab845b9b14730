//! The value of a field.

use std::cmp::Ordering;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use diesel_pglock::{AdvisoryKey, LockMode, LockedRelation};
use serde::{Serialize, Serializer};

use crate::output::clean;
use diesel_pglock::internal::format_duration;

/// The value of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    None,
    Integer(i64),
    Bool(bool),
    Text(String),
    Mode(LockMode),
    Duration(TimeDelta),
    Timestamp(DateTime<Utc>),
    /// A relation, and the names by which it can be given.
    Relation(LockedRelation, Vec<String>),
    Key(AdvisoryKey),
}

impl Value {
    /// Creates the value of a relation.
    pub fn relation(relation: &LockedRelation) -> Self {
        let (schema, name) = (&relation.schema, &relation.name);
        let shown = relation.to_string();
        let quoted_name = shown
            .strip_prefix(schema.as_str())
            .and_then(|it| it.strip_prefix('.'));
        let names = [Some(&*shown), quoted_name, Some(name)];
        let mut names: Vec<String> = names.into_iter().flatten().map(str::to_owned).collect();
        names.push(format!("{schema}.{name}"));
        Self::Relation(relation.clone(), names)
    }

    /// Returns true if the other value means the same: a relation or a key has several names.
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Relation(_, names), Self::Text(text)) => names.contains(text),
            _ => self == other,
        }
    }

    /// Compares two values; `None` if they have no order.
    pub fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => Some(a.cmp(b)),
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            (Self::Mode(a), Self::Mode(b)) => Some(a.table_lock_mode()?.cmp(&b.table_lock_mode()?)),
            (Self::Duration(a), Self::Duration(b)) => Some(a.cmp(b)),
            (Self::Timestamp(a), Self::Timestamp(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }

    /// Returns true for a missing or empty value.
    pub fn is_none(&self) -> bool {
        match self {
            Self::None => true,
            Self::Text(text) => text.is_empty(),
            _ => false,
        }
    }

    /// Returns the value on one line, clean for a terminal.
    pub fn cell(&self) -> String {
        match self {
            Self::Text(text) => clean(text),
            Self::Relation(..) | Self::Key(_) => clean(&self.text()),
            Self::Duration(duration) => format_duration(*duration),
            other => other.text(),
        }
    }

    /// Returns the value unchanged.
    pub fn text(&self) -> String {
        match self {
            Self::None => String::new(),
            Self::Integer(number) => number.to_string(),
            Self::Bool(value) => value.to_string(),
            Self::Text(text) => text.clone(),
            Self::Relation(relation, _) => relation.to_string(),
            Self::Key(key) => key.to_string(),
            Self::Mode(mode) => mode.to_string(),
            Self::Duration(duration) => format_duration(*duration),
            Self::Timestamp(timestamp) => timestamp.to_rfc3339_opts(SecondsFormat::Millis, true),
        }
    }
}

/// Writes durations in seconds, timestamps as RFC 3339, and the rest as the library does.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_none(),
            Self::Integer(number) => serializer.serialize_i64(*number),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Duration(duration) => serializer.serialize_f64(duration.as_seconds_f64()),
            Self::Timestamp(timestamp) => timestamp.serialize(serializer),
            Self::Relation(relation, _) => relation.serialize(serializer),
            Self::Key(key) => key.serialize(serializer),
            other => serializer.serialize_str(&other.text()),
        }
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::None, Into::into)
    }
}

macro_rules! from {
    ($($type:ty => $variant:ident,)*) => {
        $(impl From<$type> for Value {
            fn from(value: $type) -> Self {
                Self::$variant(value.into())
            }
        })*
    };
}

from! {
    i16 => Integer, i32 => Integer, u32 => Integer, i64 => Integer, bool => Bool,
    AdvisoryKey => Key, String => Text, &str => Text, LockMode => Mode, TimeDelta => Duration, DateTime<Utc> => Timestamp,
}
