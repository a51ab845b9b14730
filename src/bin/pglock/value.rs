use std::cmp::Ordering;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use diesel_pglock::LockMode;
use serde::{Serialize, Serializer};

use crate::terminal_text::clean;
use diesel_pglock::internal::format_duration;

/// What a lock has for a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    None,
    Integer(i64),
    Truth(bool),
    Text(String),
    Mode(LockMode),
    Span(TimeDelta),
    Moment(DateTime<Utc>),
}

impl Value {
    /// Which is greater; `None` for values that know no order.
    pub fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => Some(a.cmp(b)),
            (Self::Truth(a), Self::Truth(b)) => Some(a.cmp(b)),
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            (Self::Mode(a), Self::Mode(b)) => Some(a.table_lock_mode()?.cmp(&b.table_lock_mode()?)),
            (Self::Span(a), Self::Span(b)) => Some(a.cmp(b)),
            (Self::Moment(a), Self::Moment(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }

    /// Whether there is nothing to show.
    pub fn is_none(&self) -> bool {
        match self {
            Self::None => true,
            Self::Text(text) => text.is_empty(),
            _ => false,
        }
    }

    /// The value on one line, fit for a terminal.
    pub fn cell(&self) -> String {
        match self {
            Self::Text(text) => clean(text),
            Self::Span(span) => format_duration(*span),
            other => other.text(),
        }
    }

    /// The value as it is.
    pub fn text(&self) -> String {
        match self {
            Self::None => String::new(),
            Self::Integer(number) => number.to_string(),
            Self::Truth(truth) => truth.to_string(),
            Self::Text(text) => text.clone(),
            Self::Mode(mode) => mode.to_string(),
            Self::Span(span) => format_duration(*span),
            Self::Moment(moment) => moment.to_rfc3339_opts(SecondsFormat::Millis, true),
        }
    }
}

/// Durations are seconds, moments RFC 3339.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_none(),
            Self::Integer(number) => serializer.serialize_i64(*number),
            Self::Truth(truth) => serializer.serialize_bool(*truth),
            Self::Span(span) => serializer.serialize_f64(span.as_seconds_f64()),
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
    i16 => Integer, i32 => Integer, u32 => Integer, i64 => Integer, bool => Truth,
    String => Text, &str => Text, LockMode => Mode, TimeDelta => Span, DateTime<Utc> => Moment,
}
