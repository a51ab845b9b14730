//! Keeps passwords out of errors.

use diesel::ConnectionError;

use super::conninfo;
use super::conninfo::pairs;
use crate::error::Error;

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
fn secrets(url: &str) -> Vec<String> {
    let mut secrets = match conninfo::url(url) {
        Some((_, rest)) => secrets_of_url(rest),
        None => secrets_of_pairs(url),
    };
    secrets.retain(|secret| !secret.is_empty());
    secrets
}

/// A password may hold any sign, so the last `@` ends it.
fn secrets_of_url(rest: &str) -> Vec<String> {
    let credentials = rest.rsplit_once('@').and_then(|(it, _)| it.split_once(':'));
    let password = credentials.map(|(_, password)| password);
    let parameters = rest.split("password=").skip(1);
    let parameters = parameters.filter_map(|rest| rest.split('&').next());
    password
        .into_iter()
        .chain(parameters)
        .map(str::to_owned)
        .collect()
}

/// A word that belongs to no keyword is the rest of a password that lacks its quotes, or a
/// mistyped URL with one.
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

/// Returns a connection string that can be shown: without passwords and rare parameters.
#[cfg(feature = "cli")]
pub fn redact_conninfo(conninfo: &str) -> String {
    match conninfo::url(conninfo) {
        Some((scheme, rest)) => format!("{scheme}://{}", redact_url(rest)),
        None => public_pairs(conninfo),
    }
}

/// The last `@` ends a password, unless it can belong to one among the parameters.
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

/// A list of what may be shown is safer than one of what may not: servers add secrets.
#[cfg(feature = "cli")]
fn public_pairs(conninfo: &str) -> String {
    const PUBLIC: [&str; 6] = ["host", "hostaddr", "port", "dbname", "user", "service"];
    let mut pairs = pairs(conninfo);
    pairs.retain(|(keyword, _)| PUBLIC.contains(&keyword.as_str()));
    let pairs = pairs.into_iter();
    let words = pairs.filter_map(|(keyword, value)| Some(format!("{keyword}={}", value?)));
    words.collect::<Vec<_>>().join(" ")
}

/// Leaves out of `message` the secrets, and each quotation that is a part of one or has one.
fn redact(message: &str, secrets: &[String]) -> String {
    let conceals = |quoted: &str| {
        let of = |secret: &String| secret.contains(quoted) || quoted.contains(secret.as_str());
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
        assert_eq!(secrets("password = 'a b' sslpassword=c"), ["a b", "c"]);
        assert_eq!(secrets("password=my secret host=x"), ["my", "secret"]);
        assert!(secrets("app").is_empty());
        assert_eq!(secrets("app:hunter2@host/db"), ["app:hunter2@host/db"]);
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
        let secrets = ["pa/ss".to_owned()];
        assert_eq!(redact(message, &secrets), concealed);
        assert_eq!(
            redact("could not read \"app:pa/ss\"", &secrets),
            "could not read \"…\""
        );
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
