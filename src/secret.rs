//! Keeps passwords out of errors.

use diesel::ConnectionError;

use crate::Error;

/// The error of connecting to `url`, without what the URL keeps secret.
///
/// libpq quotes what it cannot read, and a password with a `/` or an `@` in it
/// can end up in such a quotation.
pub(crate) fn conceal(error: ConnectionError, url: &str) -> Error {
    Error::Watcher(Box::new(match error {
        ConnectionError::BadConnection(message) => {
            ConnectionError::BadConnection(redact(&message, &secrets(url)))
        }
        ConnectionError::InvalidConnectionUrl(message) => {
            ConnectionError::InvalidConnectionUrl(redact(&message, &secrets(url)))
        }
        other => other,
    }))
}

/// The parts of a URL or a `key=value` string that nobody should read.
fn secrets(url: &str) -> Vec<&str> {
    let authority = url.split_once("://").map(|(_, rest)| rest);
    let credentials = authority.and_then(|rest| rest.rsplit_once('@'));
    let in_url = credentials.and_then(|(user, _)| user.split_once(':'));
    let in_words = url.split("password=").skip(1);
    in_url
        .into_iter()
        .map(|(_, password)| password)
        .chain(in_words.map(|rest| rest.split(['&', ' ']).next().unwrap_or(rest)))
        .filter(|secret| !secret.is_empty())
        .collect()
}

/// Leaves out of `message` the secrets, and each quotation that is a part of one or has one.
fn redact(message: &str, secrets: &[&str]) -> String {
    let conceals = |quoted: &str| {
        let of = |secret: &&str| secret.contains(quoted) || quoted.contains(secret);
        !quoted.is_empty() && secrets.iter().any(of)
    };
    let quotations: Vec<_> = message
        .split('"')
        .enumerate()
        .map(|(i, part)| {
            if i % 2 == 1 && conceals(part) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_found_wherever_it_stands() {
        assert_eq!(secrets("postgres://app:pa/ss@w@host/db"), ["pa/ss@w"]);
        assert_eq!(secrets("host=x password=hunter2 dbname=y"), ["hunter2"]);
        assert_eq!(
            secrets("postgres://host/db?password=hunter2&x=y"),
            ["hunter2"]
        );
        assert!(secrets("postgres://app@host/db").is_empty());
    }

    #[test]
    fn a_quotation_of_a_part_is_left_out() {
        let message = "invalid integer value \"pa\" for connection option \"port\"";
        let concealed = "invalid integer value \"…\" for connection option \"port\"";
        assert_eq!(redact(message, &["pa/ss"]), concealed);
        assert_eq!(
            redact("could not read \"app:pa/ss\"", &["pa/ss"]),
            "could not read \"…\""
        );
    }
}
