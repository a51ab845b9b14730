//! Removes passwords from errors and from connection strings that are shown.

use diesel::ConnectionError;

use super::conninfo;
use super::conninfo::pairs;
use crate::error::Error;

/// Returns the error of connecting to `url` without the secrets of the URL.
///
/// libpq quotes text that it cannot read. A password with a `/` or an `@` can be a part
/// of such a quotation.
pub(super) fn redact_error(error: ConnectionError, url: &str) -> Error {
    Error::Watcher(Box::new(match error {
        ConnectionError::BadConnection(message) => {
            ConnectionError::BadConnection(redact_message(&message, &secrets(url)))
        }
        ConnectionError::InvalidConnectionUrl(message) => {
            ConnectionError::InvalidConnectionUrl(redact_message(&message, &secrets(url)))
        }
        other => other,
    }))
}

/// Returns the passwords in a URL or a `keyword=value` string, the longest first.
///
/// One secret may contain another. If the shorter one were replaced first, the rest of the
/// longer one would remain.
fn secrets(url: &str) -> Vec<String> {
    let mut secrets = match conninfo::url(url) {
        Some((_, rest)) => secrets_of_url(rest),
        None => secrets_of_pairs(url),
    };
    secrets.retain(|secret| !secret.is_empty());
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets
}

/// Returns the passwords in a URL. The last `@` ends one, since it may contain any character.
///
/// For libpq the first `@` ends it, and the rest belongs to the host that it quotes. All that
/// follows is a secret then.
fn secrets_of_url(rest: &str) -> Vec<String> {
    let credentials = rest.rsplit_once('@').and_then(|(it, _)| it.split_once(':'));
    let password = credentials.map(|(_, password)| password);
    let has_at = password.is_some_and(|password| password.contains('@'));
    let with_host = rest.split_once(':').filter(|_| has_at);
    let parameters = rest.split("password=").skip(1);
    let parameters = parameters.filter_map(|rest| rest.split('&').next());
    password
        .into_iter()
        .chain(with_host.map(|(_, it)| it))
        .chain(parameters)
        .map(str::to_owned)
        .collect()
}

/// Returns the passwords in `keyword=value` pairs.
///
/// A word without a keyword is the rest of a password that lacks its quotes, or a mistyped
/// URL that contains one.
fn secrets_of_pairs(conninfo: &str) -> Vec<String> {
    let is_password = |keyword: &str| keyword.ends_with("password");
    let mut behind_password = false;
    let secrets = pairs(conninfo).into_iter().filter_map(|(keyword, value)| {
        behind_password |= is_password(&keyword);
        match value {
            None => Some(keyword).filter(|it| behind_password || it.contains('@')),
            value => value.filter(|_| is_password(&keyword)),
        }
    });
    secrets.collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_found_in_every_place() {
        let with_host = ["pa/ss@w@host/db", "pa/ss@w"];
        assert_eq!(secrets("postgres://app:pa/ss@w@host/db"), with_host);
        assert_eq!(secrets("host=x password=hunter2 dbname=y"), ["hunter2"]);
        assert_eq!(secrets("password = 'a b' sslpassword=c"), ["a b", "c"]);
        assert_eq!(secrets("password=my secret host=x"), ["secret", "my"]);
        assert!(secrets("app").is_empty());
        assert_eq!(secrets("app:hunter2@host/db"), ["app:hunter2@host/db"]);
        assert_eq!(
            secrets("postgres://host/db?password=hunter2&x=y"),
            ["hunter2"]
        );
        assert!(secrets("postgres://app@host/db").is_empty());
    }

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
