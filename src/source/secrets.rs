//! Finds the passwords in connection strings, right and wrong ones.

use super::conninfo;
use super::conninfo::pairs;
use crate::fmt::percent_decode;

/// Returns the passwords in a URL or a `keyword=value` string, and what libpq may take for a
/// part of one, the longest first.
///
/// One secret may contain another. If the shorter one were replaced first, the rest of the
/// longer one would remain.
pub(super) fn secrets(url: &str) -> Vec<String> {
    let rest = conninfo::url(url).map(|(_, rest)| rest);
    let mut secrets = passwords(url);
    secrets.extend(rest.into_iter().flat_map(end_with_host));
    secrets.retain(|secret| !secret.is_empty());
    secrets.sort_by(|a, b| (b.len(), b).cmp(&(a.len(), a)));
    secrets.dedup();
    secrets
}

/// Returns the passwords in a URL or a `keyword=value` string.
pub(super) fn passwords(url: &str) -> Vec<String> {
    match conninfo::url(url) {
        Some((_, rest)) => passwords_of_url(rest),
        None => passwords_of_pairs(url),
    }
}

/// Returns the passwords in a URL. The last `@` ends one, since it may contain any character.
fn passwords_of_url(rest: &str) -> Vec<String> {
    let parameters = rest.split("password=").skip(1);
    let parameters = parameters.flat_map(values_of_password);
    let written = password_of_url(rest).into_iter().chain(parameters);
    written.flat_map(as_written_and_decoded).collect()
}

/// The usual keywords behind a password. Others may be a part of it, which libpq quotes.
const KEYWORDS: [&str; 12] = [
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "service",
    "sslmode",
    "connect_timeout",
    "application_name",
    "options",
    "target_session_attrs",
    "channel_binding",
];

/// Returns the password at the start of a text, with the parts behind a `&` that it may contain.
fn values_of_password(text: &str) -> impl Iterator<Item = &str> {
    let is_parameter = |part: &str| {
        let keyword = part.split_once('=').map(|(keyword, _)| keyword);
        keyword.is_some_and(|keyword| KEYWORDS.contains(&keyword))
    };
    let parts = text.split('&').enumerate();
    let parts = parts.filter(move |(i, part)| *i == 0 || !is_parameter(part));
    parts.map(|(_, part)| part)
}

/// Returns the password with the host behind it, if it has an `@`.
///
/// For libpq the first `@` ends the password, and the rest belongs to the host that it quotes.
/// All that follows is a secret then.
fn end_with_host(rest: &str) -> impl Iterator<Item = String> {
    let has_at = password_of_url(rest).is_some_and(|password| password.contains('@'));
    let with_host = rest.split_once(':').filter(|_| has_at);
    with_host
        .into_iter()
        .flat_map(|(_, it)| as_written_and_decoded(it))
}

/// libpq quotes a host as it has decoded it.
fn as_written_and_decoded(text: &str) -> [String; 2] {
    [text.to_owned(), percent_decode(text)]
}

fn password_of_url(rest: &str) -> Option<&str> {
    let (credentials, _) = rest.rsplit_once('@')?;
    Some(credentials.split_once(':')?.1)
}

/// Returns the passwords in `keyword=value` pairs.
///
/// A word without a keyword, or with an unknown one, is the rest of a password that lacks its
/// quotes, or a mistyped URL that contains one. libpq ends a keyword of that URL at a `=`, and
/// quotes it.
fn passwords_of_pairs(conninfo: &str) -> Vec<String> {
    let is_password = |keyword: &str| keyword.ends_with("password");
    let mut behind_password = false;
    let secrets = pairs(conninfo).into_iter().filter_map(|(keyword, value)| {
        behind_password |= is_password(&keyword);
        match value {
            None => Some(keyword).filter(|it| behind_password || it.contains('@')),
            value if is_password(&keyword) => value,
            _ if KEYWORDS.contains(&&*keyword) => None,
            _ => Some(keyword).filter(|_| behind_password),
        }
    });
    let mistyped_url = conninfo
        .split_once("://")
        .map_or(conninfo, |(_, rest)| rest);
    secrets
        .chain(password_of_url(mistyped_url).map(str::to_owned))
        .collect()
}

/// Returns the passwords in any text that contains a connection string, as they are written.
#[cfg(feature = "cli")]
pub(super) fn written_passwords(text: &str) -> Vec<String> {
    let values = text.split("password").skip(1);
    let values = values.filter_map(|rest| Some(rest.split_once('=')?.1));
    let Some((_, rest)) = text.split_once("://") else {
        return values
            .map(|value| written_value(value).to_owned())
            .collect();
    };
    // A mistyped URL may have any character in its password.
    let values = values.map(str::to_owned);
    values.chain(passwords_of_url(rest)).collect()
}

/// Returns the start of a text that is a value: up to a pair with a usual keyword.
///
/// A password may lack its quotes, and go on behind white space.
#[cfg(feature = "cli")]
fn written_value(text: &str) -> &str {
    let begins_pair = |rest: &str| {
        let keyword = rest.split_once('=').map(|(keyword, _)| keyword.trim());
        keyword.is_some_and(|keyword| KEYWORDS.contains(&keyword))
    };
    let spaces = text.char_indices().filter(|(_, c)| c.is_whitespace());
    let mut ends = spaces.map(|(i, _)| i);
    let end = ends.find(|end| begins_pair(&text[*end..]));
    end.map_or(text, |end| &text[..end])
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
        assert_eq!(secrets("password=my se=x host=x"), ["se", "my"]);
        assert_eq!(
            secrets("postgres://h?password=a&bc=d&host=x"),
            ["bc=d", "a"]
        );
        assert!(secrets("app").is_empty());
        let mistyped = ["app:hunter2@host/db", "hunter2"];
        assert_eq!(secrets("app:hunter2@host/db"), mistyped);
        assert_eq!(
            secrets("postgres://host/db?password=hunter2&port=1"),
            ["hunter2"]
        );
        assert!(secrets("postgres://app@host/db").is_empty());
    }
}
