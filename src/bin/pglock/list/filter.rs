//! `--filter field=value`: parsed once, then compared with each lock.

use std::cmp::Ordering;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};
use diesel_pglock::{AdvisoryKey, LockMode, TableLockMode};

use super::field::{Field, Kind, UnknownField};
use super::row::Row;
use super::value::Value;
use crate::duration::parse_duration;

/// A condition on a field.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    pub field: &'static Field,
    operator: Operator,
    value: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Is,
    IsNot,
    Less,
    AtMost,
    Greater,
    AtLeast,
    Contains,
}

/// The longer operators are tried first: `<` is a prefix of `<=`.
const OPERATORS: [(&str, Operator); 7] = [
    ("!=", Operator::IsNot),
    ("<=", Operator::AtMost),
    (">=", Operator::AtLeast),
    ("<", Operator::Less),
    (">", Operator::Greater),
    ("=", Operator::Is),
    ("~", Operator::Contains),
];

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let parts = Parts::split(text);
        let parts = parts.ok_or_else(|| FilterError::NoOperator(text.to_owned()))?;
        let operator = parts.operator;
        let field = Field::named(parts.name).map_err(FilterError::Field)?;
        let value = parse(field, operator, parts.value);
        let value = value.map_err(|error| FilterError::Value(field, error))?;
        Ok(Self {
            field,
            operator,
            value,
        })
    }
}

/// The texts of a filter.
struct Parts<'t> {
    name: &'t str,
    operator: Operator,
    value: &'t str,
}

impl<'t> Parts<'t> {
    fn split(text: &'t str) -> Option<Self> {
        let (name, rest) = text.split_at(text.find(['!', '<', '>', '=', '~'])?);
        OPERATORS.iter().find_map(|(sign, operator)| {
            Some(Self {
                name: name.trim(),
                operator: *operator,
                value: rest.strip_prefix(sign)?.trim(),
            })
        })
    }
}

/// An empty value means that the lock has no value, for fields of any type.
fn parse(field: &Field, operator: Operator, text: &str) -> Result<Value, String> {
    match operator {
        Operator::Is | Operator::IsNot if text.is_empty() => Ok(Value::None),
        _ if text.is_empty() => Err("the value is missing".to_owned()),
        Operator::Contains => parse_part(field.kind, text),
        _ => parse_value(field.kind, text),
    }
}

fn parse_part(kind: Kind, text: &str) -> Result<Value, String> {
    match kind {
        Kind::Word(_) | Kind::Mode => Ok(Value::Text(text.to_lowercase())),
        kind if kind.is_text() => Ok(Value::Text(text.to_lowercase())),
        _ => Err("`~` compares texts only".to_owned()),
    }
}

fn parse_value(kind: Kind, text: &str) -> Result<Value, String> {
    match kind {
        Kind::Text | Kind::Relation => Ok(Value::Text(text.to_owned())),
        Kind::Key => Ok(Value::Key(advisory_key(text))),
        Kind::Address => match text.parse::<IpAddr>() {
            Ok(address) => Ok(Value::Text(address.to_string())),
            Err(_) => Err(format!("`{text}` is not an address; `~` compares a part")),
        },
        Kind::Integer => match text.parse() {
            Ok(number) => Ok(Value::Integer(number)),
            Err(_) => Err(format!("`{text}` is not an integer")),
        },
        Kind::Bool => match text.to_lowercase().parse() {
            Ok(value) => Ok(Value::Bool(value)),
            Err(_) => Err(format!("`{text}` is neither `true` nor `false`")),
        },
        Kind::Mode => mode(text),
        Kind::Word(words) => word(text, words),
        Kind::Duration => duration(text),
        Kind::Timestamp => timestamp(text),
    }
}

/// Parses a number, a pair, or else a name, as the key of an advisory lock.
///
/// From then on the key is shown by that name.
pub fn advisory_key(text: &str) -> AdvisoryKey {
    let pair = text
        .split_once(',')
        .map(|(a, b)| (a.trim().parse(), b.trim().parse()));
    match (text.parse(), pair) {
        (Ok(number), _) => AdvisoryKey::new(number),
        (_, Some((Ok(first), Ok(second)))) => AdvisoryKey::pair(first, second),
        _ => AdvisoryKey::named(text),
    }
}

fn mode(text: &str) -> Result<Value, String> {
    if let known @ LockMode::SiReadLock = LockMode::from(text) {
        return Ok(Value::Mode(known));
    }
    match text.parse::<TableLockMode>() {
        Ok(mode) => Ok(Value::Mode(mode.into())),
        Err(error) => Err(format!("{error}, `SIReadLock`")),
    }
}

fn word(text: &str, words: &[&str]) -> Result<Value, String> {
    let found = words.iter().find(|word| word.eq_ignore_ascii_case(text));
    match found {
        Some(word) => Ok(Value::Text((*word).to_owned())),
        None => Err(format!(
            "unknown value `{text}`; the values are {}",
            words.join(", ")
        )),
    }
}

fn duration(text: &str) -> Result<Value, String> {
    let duration = TimeDelta::from_std(parse_duration(text)?);
    let duration = duration.map(Value::Duration);
    duration.map_err(|error| error.to_string())
}

fn timestamp(text: &str) -> Result<Value, String> {
    match DateTime::parse_from_rfc3339(text) {
        Ok(timestamp) => Ok(Value::Timestamp(timestamp.with_timezone(&Utc))),
        Err(_) => Err(format!(
            "`{text}` is not a timestamp; write it as 2026-01-31T12:00:00Z"
        )),
    }
}

impl Filter {
    pub fn matches(&self, row: &Row) -> bool {
        self.matches_value(&(self.field.get)(row))
    }

    fn matches_value(&self, value: &Value) -> bool {
        let order = value.order(&self.value);
        match self.operator {
            Operator::Is => self.equals(value),
            Operator::IsNot => !self.equals(value),
            Operator::Less => order.is_some_and(Ordering::is_lt),
            Operator::AtMost => order.is_some_and(Ordering::is_le),
            Operator::Greater => order.is_some_and(Ordering::is_gt),
            Operator::AtLeast => order.is_some_and(Ordering::is_ge),
            Operator::Contains => value.text().to_lowercase().contains(&self.value.text()),
        }
    }

    fn equals(&self, value: &Value) -> bool {
        match self.value {
            Value::None => value.is_none(),
            _ => value.is(&self.value),
        }
    }
}

/// The reason that a filter cannot be parsed.
#[derive(Debug, PartialEq, Eq)]
pub enum FilterError {
    NoOperator(String),
    Field(UnknownField),
    Value(&'static Field, String),
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoOperator(text) => write!(
                f,
                "`{text}` has no operator; write `field=value`, with one of = != < <= > >= ~"
            ),
            Self::Field(unknown) => write!(f, "{unknown}"),
            Self::Value(field, error) => write!(f, "field `{}`: {error}", field.name),
        }
    }
}

impl std::error::Error for FilterError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> Filter {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    fn error(text: &str) -> String {
        text.parse::<Filter>().unwrap_err().to_string()
    }

    #[test]
    fn a_value_has_the_type_of_its_field() {
        assert!(filter("granted=false").matches_value(&Value::Bool(false)));
        assert!(filter("pid>=7").matches_value(&Value::Integer(7)));
        assert!(filter("wait_duration>5s").matches_value(&Value::Duration(TimeDelta::seconds(6))));
        assert!(!filter("wait_duration>5s").matches_value(&Value::Duration(TimeDelta::seconds(5))));
        assert!(
            filter("mode = AccessExclusive").matches_value(&Value::Mode(LockMode::AccessExclusive))
        );
        assert!(filter("mode>=share").matches_value(&Value::Mode(LockMode::Exclusive)));
        assert!(filter("type=Relation").matches_value(&Value::Text("relation".into())));
        assert!(
            filter("activity.start<2026-01-01T00:00:00+01:00")
                .matches_value(&Value::Timestamp(DateTime::UNIX_EPOCH))
        );
    }

    #[test]
    fn a_part_of_a_text_matches_in_any_case() {
        assert!(
            filter("activity.application~WORK").matches_value(&Value::Text("night worker".into()))
        );
        assert!(!filter("activity.application~x").matches_value(&Value::None));
    }

    #[test]
    fn a_missing_value_is_neither_equal_nor_less_nor_greater() {
        assert!(filter("pid!=7").matches_value(&Value::None));
        assert!(
            !filter("pid<7").matches_value(&Value::None)
                && !filter("pid>7").matches_value(&Value::None)
        );
        assert!(filter("relation=").matches_value(&Value::None));
        assert!(!filter("relation!=").matches_value(&Value::Text(String::new())));
    }

    #[test]
    fn a_value_may_contain_operators() {
        assert!(filter("activity.query=a<=b").matches_value(&Value::Text("a<=b".into())));
    }

    #[test]
    fn an_error_lists_the_possible_values() {
        assert!(
            error("colour=red").contains("`colour`; the fields are pid, "),
            "{}",
            error("colour=red")
        );
        assert!(error("mode=DROP").contains("`ACCESS EXCLUSIVE`"));
        assert!(error("type=tomorrow").contains("advisory"));
        assert!(error("granted=maybe").contains("neither `true` nor `false`"));
        assert!(error("wait_duration>5").contains("5s"));
        assert!(error("pid~7").contains("`~`"));
        assert!(error("pid").contains("= != < <= > >= ~"));
        assert!(error("pid<").contains("missing"));
        assert!(error("activity.application~ ").contains("missing"));
        assert!(error("pid!7").contains("has no operator"));
    }

    /// Inputs that resemble filters, from a generator with a fixed seed.
    struct Inputs(u64);

    impl Inputs {
        fn next(&mut self, below: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % below as u64) as usize
        }

        fn piece(&mut self, names: &[&'static str], into: &mut String) {
            const ODD: [&str; 24] = [
                "=",
                "!=",
                "<",
                "<=",
                ">",
                ">=",
                "~",
                "!",
                " ",
                "true",
                "AccessExclusive",
                "-1",
                "9223372036854775808",
                "1e308s",
                "99999999999999999h",
                "1.5h",
                "...s",
                "5",
                "2026-01-31T12:00:00Z",
                "idle in transaction",
                "\u{202e}",
                "\u{1b}[2J",
                "ſ",
                "\0",
            ];
            match self.next(4) {
                0 => into.push_str(names[self.next(names.len())]),
                1 | 2 => into.push_str(ODD[self.next(ODD.len())]),
                _ => into.extend(char::from_u32(self.next(0x11_0000) as u32)),
            }
        }
    }

    #[test]
    fn a_million_inputs_are_parsed_or_refused() {
        let names: Vec<&'static str> = crate::list::field::fields()
            .map(|field| field.name)
            .collect();
        let mut inputs = Inputs(0x9e37_79b9_7f4a_7c15);
        let (mut text, mut read) = (String::new(), 0);
        for _ in 0..1_000_000 {
            text.clear();
            for _ in 0..=inputs.next(5) {
                inputs.piece(&names, &mut text);
            }
            if let Ok(filter) = text.parse::<Filter>() {
                read += 1;
                filter.matches_value(&Value::Text(String::new()));
            }
        }
        assert!(read > 10_000, "only {read} inputs were filters");
    }
}
