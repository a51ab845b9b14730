//! Removes passwords from errors and from connection strings that are shown.

use diesel::ConnectionError;

#[cfg(feature = "cli")]
use super::conninfo::{self, pairs};
#[cfg(feature = "cli")]
use super::secrets::written_passwords;
use super::secrets::{passwords, secrets};
use crate::error::Error;

/// Returns the error of connecting to `url` without the secrets of the URL.
///
/// libpq quotes text that it cannot read. A password with a `/` or an `@` can be a part
/// of such a quotation.
pub(super) fn redact_error(error: ConnectionError, url: &str) -> Error {
    Error::Watcher(Box::new(match error {
        ConnectionError::BadConnection(message) => {
            ConnectionError::BadConnection(redact(&message, url))
        }
        ConnectionError::InvalidConnectionUrl(message) => {
            ConnectionError::InvalidConnectionUrl(redact(&message, url))
        }
        other => other,
    }))
}

fn redact(message: &str, url: &str) -> String {
    let message = redact_message(message, &secrets(url));
    without_parts(&message, &passwords(url))
}

/// Returns a message about a text without the passwords in that text, and without parts of them.
///
/// The text may be any that contains a connection string, such as a line of a file. The message
/// quotes it as it is, so each form in which a password can be written is removed.
#[cfg(feature = "cli")]
pub fn redact_text(message: &str, text: &str) -> String {
    without_parts(&redact(message, text), &written_passwords(text))
}

/// Returns a connection string that can be shown, without passwords and rare parameters.
#[cfg(feature = "cli")]
pub fn redact_conninfo(conninfo: &str) -> String {
    match conninfo::url(conninfo) {
        Some((scheme, rest)) => format!("{scheme}://{}", redact_url(rest)),
        None => public_pairs(conninfo),
    }
}

/// Returns a URL without its password and parameters.
///
/// The last `@` ends the password. If it can belong to a password among the parameters, only
/// `…` is returned.
#[cfg(feature = "cli")]
fn redact_url(rest: &str) -> String {
    let parameters = rest.split_once('?').map_or("", |(_, it)| it);
    if parameters.contains('@') && parameters.contains("password=") {
        return "…".to_owned();
    }
    let without_parameters = |place: &str| place.split('?').next().unwrap_or_default().to_owned();
    let Some((credentials, place)) = rest.rsplit_once('@') else {
        return without_parameters(rest);
    };
    let place = without_parameters(place);
    match credentials.split_once(':') {
        Some((user, _)) => format!("{user}:…@{place}"),
        None => format!("{credentials}@{place}"),
    }
}

/// Returns the pairs that can be shown. An allow list is safe when libpq adds secrets.
#[cfg(feature = "cli")]
fn public_pairs(conninfo: &str) -> String {
    const PUBLIC: [&str; 6] = ["host", "hostaddr", "port", "dbname", "user", "service"];
    let mut pairs = pairs(conninfo);
    pairs.retain(|(keyword, _)| PUBLIC.contains(&keyword.as_str()));
    let pairs = pairs.into_iter();
    let words = pairs.filter_map(|(keyword, value)| Some(format!("{keyword}={}", value?)));
    words.collect::<Vec<_>>().join(" ")
}

/// Removes the secrets from `message`, and each quotation that shares text with a secret.
fn redact_message(message: &str, secrets: &[String]) -> String {
    let is_secret = |quoted: &str| {
        let shares = |secret: &String| secret.contains(quoted) || quoted.contains(secret.as_str());
        !quoted.is_empty() && secrets.iter().any(shares)
    };
    let quotations: Vec<_> = message
        .split('"')
        .enumerate()
        .map(|(i, part)| {
            if i % 2 == 1 && is_secret(part) {
                "…"
            } else {
                part
            }
        })
        .collect();
    let message = quotations.join("\"");
    secrets
        .iter()
        .fold(message, |message, secret| message.replace(secret, "…"))
}

/// The length from which a part of a secret is removed, in characters.
const MIN_PART: usize = 4;

/// Replaces each longer text that a secret contains.
///
/// A message may quote the text between two characters that a parser splits at. Words that begin
/// like a secret are kept.
fn without_parts(message: &str, secrets: &[String]) -> String {
    let mut shown = String::new();
    let mut rest = message;
    while let Some(c) = rest.chars().next() {
        let is_inside = is_within_word(shown.chars().last(), Some(c));
        let part = if is_inside {
            ""
        } else {
            common_start(rest, secrets)
        };
        if part.chars().count() < MIN_PART {
            shown.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            shown.push('…');
            rest = &rest[part.len()..];
        }
    }
    shown
}

/// Returns the longest start of a text, of whole words, that a secret contains.
fn common_start<'t>(text: &'t str, secrets: &[String]) -> &'t str {
    let ends = text.char_indices().map(|(i, c)| i + c.len_utf8());
    let splits = ends.map(|end| text.split_at(end));
    let is_part = |(start, _): &(&str, &str)| secrets.iter().any(|secret| secret.contains(start));
    let ends_word =
        |(start, rest): &(&str, &str)| !is_within_word(start.chars().last(), rest.chars().next());
    let parts = splits.take_while(is_part).filter(ends_word);
    parts.last().map_or("", |(start, _)| start)
}

fn is_within_word(before: Option<char>, after: Option<char>) -> bool {
    let is_of_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    is_of_word(before) && is_of_word(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quotation_of_a_part_of_a_password_is_removed() {
        let message = "invalid integer value \"pa\" for connection option \"port\"";
        let redacted = "invalid integer value \"…\" for connection option \"port\"";
        let secrets = ["pa/ss".to_owned()];
        assert_eq!(redact_message(message, &secrets), redacted);
        assert_eq!(
            redact_message("could not read \"app:pa/ss\"", &secrets),
            "could not read \"…\""
        );
        let secrets = super::secrets("postgres://app:p@ss@host/db");
        let message = "could not translate host name \"ss@host\" to address";
        let redacted = "could not translate host name \"…\" to address";
        assert_eq!(redact_message(message, &secrets), redacted);
    }

    #[test]
    fn a_password_that_contains_another_leaves_no_remainder() {
        let secrets = secrets("sslpassword=hunter password=hunter2");
        let message = "cannot use hunter2 or hunter";
        assert_eq!(redact_message(message, &secrets), "cannot use … or …");
    }

    #[cfg(feature = "cli")]
    #[test]
    fn a_part_of_a_password_is_removed_wherever_a_parser_ends_it() {
        assert_eq!(
            redact("no option \"app:hun\"", "app:hunter2=x@host/db"),
            "no option \"app:hun\"",
            "three characters are no part"
        );
        let message = "invalid connection option \"app:hunter2@host/db?sslmode\"";
        let shown = "invalid connection option \"…\"";
        assert_eq!(redact(message, "app:hunter2@host/db?sslmode=x"), shown);
        let message = "unknown field `x hunt`";
        let shown = "unknown field `x …`";
        assert_eq!(redact(message, "postgres://a:hunt,er2@h"), shown);
        let pairs = r"password='it\'s hunter2' host=shop";
        let message = r"unknown field `s hunter2` of `'it\'s`, not the host shop";
        let shown = "unknown field `…` of `…`, not the host shop";
        assert_eq!(redact_text(message, pairs), shown);
        let message = "ALTER TABLE posts waits";
        assert_eq!(redact(message, "postgres://a:postgres@h"), message);
        // libpq decodes what it takes for a host.
        let message = "could not translate host name 'nteR@host'";
        let shown = "could not translate host name '…@host'";
        assert_eq!(redact(message, "postgres://a:hu@nte%52@host"), shown);
    }

    #[cfg(feature = "cli")]
    #[test]
    fn a_connection_string_is_shown_without_its_password() {
        let shown = [
            (
                "postgres://app:s@cr/et?@host:1/db",
                "postgres://app:…@host:1/db",
            ),
            (
                "postgres://app@host/db?password=x",
                "postgres://app@host/db",
            ),
            ("postgres://host:1/db?user=a&password=b@x", "postgres://…"),
            ("postgres:///db?host=/tmp", "postgres:///db"),
            (
                "host=x password=y dbname=z sslpassword=q",
                "host=x dbname=z",
            ),
            ("dbname=z password='a host=b c'", "dbname=z"),
            ("host = h password = host", "host=h"),
        ];
        for (conninfo, expected) in shown {
            assert_eq!(redact_conninfo(conninfo), expected);
        }
    }
}
