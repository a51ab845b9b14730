//! `--filter field=value`: read once, typed, and then asked of each lock.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};
use diesel_pglock::{LockMode, TableLockMode};

use crate::duration::parse_duration;
use crate::field::{Field, Kind, UnknownField};
use crate::row::Row;
use crate::value::Value;

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

/// Those of two characters first: each is looked for at the same place.
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
        let start = text.find(['!', '<', '>', '=', '~']);
        let (name, rest) = text.split_at(start.ok_or_else(|| FilterError::no_operator(text))?);
        let found = OPERATORS.iter().find(|(sign, _)| rest.starts_with(sign));
        let (sign, operator) = *found.ok_or_else(|| FilterError::no_operator(text))?;
        let field = Field::named(name.trim()).map_err(FilterError::Field)?;
        let value = parse(field, operator, rest[sign.len()..].trim());
        let value = value.map_err(|why| FilterError::Value(field, why))?;
        Ok(Self {
            field,
            operator,
            value,
        })
    }
}

/// An empty value stands for none at all, whatever the field.
fn parse(field: &Field, operator: Operator, text: &str) -> Result<Value, String> {
    if text.is_empty() {
        return match operator {
            Operator::Is | Operator::IsNot => Ok(Value::None),
            _ => Err("a value is missing".to_owned()),
        };
    }
    if operator == Operator::Contains {
        return match field.kind {
            Kind::Text | Kind::Word(_) | Kind::Mode => Ok(Value::Text(text.to_lowercase())),
            _ => Err("`~` looks for a part of a text, and this is none".to_owned()),
        };
    }
    match field.kind {
        Kind::Text => Ok(Value::Text(text.to_owned())),
        Kind::Integer => text
            .parse()
            .map(Value::Integer)
            .map_err(|_| format!("`{text}` is no whole number")),
        Kind::Truth => text
            .to_lowercase()
            .parse()
            .map(Value::Truth)
            .map_err(|_| format!("`{text}` is neither `true` nor `false`")),
        Kind::Mode => mode(text),
        Kind::Word(words) => word(text, words),
        Kind::Span => span(text),
        Kind::Moment => DateTime::parse_from_rfc3339(text)
            .map(|moment| Value::Moment(moment.with_timezone(&Utc)))
            .map_err(|_| format!("`{text}` is no moment; one is written as 2026-01-31T12:00:00Z")),
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
        None => Err(format!("`{text}` is none of {}", words.join(", "))),
    }
}

fn span(text: &str) -> Result<Value, String> {
    let span = TimeDelta::from_std(parse_duration(text)?);
    span.map(Value::Span).map_err(|error| error.to_string())
}

impl Filter {
    pub fn matches(&self, row: &Row) -> bool {
        self.holds(&(self.field.get)(row))
    }

    fn holds(&self, value: &Value) -> bool {
        let is = |orders: &[Ordering]| {
            let order = value.order(&self.value);
            order.is_some_and(|order| orders.contains(&order))
        };
        match self.operator {
            Operator::Is => self.equals(value),
            Operator::IsNot => !self.equals(value),
            Operator::Less => is(&[Ordering::Less]),
            Operator::AtMost => is(&[Ordering::Less, Ordering::Equal]),
            Operator::Greater => is(&[Ordering::Greater]),
            Operator::AtLeast => is(&[Ordering::Greater, Ordering::Equal]),
            Operator::Contains => value.text().to_lowercase().contains(&self.value.text()),
        }
    }

    fn equals(&self, value: &Value) -> bool {
        match self.value {
            Value::None => value.is_none(),
            _ => *value == self.value,
        }
    }
}

/// Why a filter cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub enum FilterError {
    NoOperator(String),
    Field(UnknownField),
    Value(&'static Field, String),
}

impl Eq for Field {}

impl FilterError {
    fn no_operator(text: &str) -> Self {
        Self::NoOperator(text.to_owned())
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoOperator(text) => write!(
                f,
                "`{text}` compares nothing; write `field=value`, with one of = != < <= > >= ~"
            ),
            Self::Field(unknown) => write!(f, "{unknown}"),
            Self::Value(field, why) => write!(f, "field `{}`: {why}", field.name),
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
    fn values_have_the_type_of_their_field() {
        assert!(filter("granted=false").holds(&Value::Truth(false)));
        assert!(filter("pid>=7").holds(&Value::Integer(7)));
        assert!(filter("wait_duration>5s").holds(&Value::Span(TimeDelta::seconds(6))));
        assert!(!filter("wait_duration>5s").holds(&Value::Span(TimeDelta::seconds(5))));
        assert!(filter("mode = AccessExclusive").holds(&Value::Mode(LockMode::AccessExclusive)));
        assert!(filter("mode>=share").holds(&Value::Mode(LockMode::Exclusive)));
        assert!(filter("type=Relation").holds(&Value::Text("relation".into())));
        assert!(
            filter("activity.start<2026-01-01T00:00:00+01:00")
                .holds(&Value::Moment(DateTime::UNIX_EPOCH))
        );
    }

    #[test]
    fn a_part_of_a_text_is_found_whatever_its_case() {
        assert!(filter("activity.application~WORK").holds(&Value::Text("night worker".into())));
        assert!(!filter("activity.application~x").holds(&Value::None));
    }

    #[test]
    fn none_is_unequal_to_all_and_neither_more_nor_less() {
        assert!(filter("pid!=7").holds(&Value::None));
        assert!(!filter("pid<7").holds(&Value::None) && !filter("pid>7").holds(&Value::None));
        assert!(filter("relation=").holds(&Value::None));
        assert!(!filter("relation!=").holds(&Value::Text(String::new())));
    }

    #[test]
    fn a_value_may_have_signs_in_it() {
        assert!(filter("activity.query=a<=b").holds(&Value::Text("a<=b".into())));
    }

    #[test]
    fn an_error_lists_what_is_possible() {
        assert!(
            error("colour=red").contains("`colour`; there are pid, "),
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
        assert!(error("pid!7").contains("compares nothing"));
    }

    /// Inputs that are nearly filters, from a generator that starts the same each time.
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
    fn a_million_inputs_are_read_or_refused() {
        let names: Vec<&'static str> = crate::field::fields().map(|field| field.name).collect();
        let mut inputs = Inputs(0x9e37_79b9_7f4a_7c15);
        let (mut text, mut read) = (String::new(), 0);
        for _ in 0..1_000_000 {
            text.clear();
            for _ in 0..=inputs.next(5) {
                inputs.piece(&names, &mut text);
            }
            if let Ok(filter) = text.parse::<Filter>() {
                read += 1;
                filter.holds(&Value::Text(String::new()));
            }
        }
        assert!(read > 10_000, "only {read} were filters at all");
    }
}
