//! Parses connection strings: URLs and `keyword=value` pairs.

use std::iter::Peekable;
use std::str::Chars;

/// Returns the scheme and the rest of a string that libpq reads as a URL.
///
/// libpq reads every other string as pairs.
pub fn url(conninfo: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = conninfo.split_once("://")?;
    matches!(scheme, "postgres" | "postgresql").then_some((scheme, rest))
}

/// Returns the keywords and their values, as libpq reads them. A word without `=` has no value.
///
/// White space around `=` is ignored, quotes enclose a value with spaces, and a backslash
/// escapes the next character. A quote that is never closed ends with the text: a string that
/// libpq refuses may still contain a password.
///
/// See [Keyword/Value Connection Strings][pg].
///
/// [pg]: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-KEYWORD-VALUE
pub fn pairs(conninfo: &str) -> Vec<(String, Option<String>)> {
    let mut rest = conninfo.chars().peekable();
    let mut pairs = Vec::new();
    loop {
        skip_space(&mut rest);
        let mut keyword = String::new();
        while let Some(c) = rest.next_if(|c| *c != '=' && !c.is_ascii_whitespace()) {
            keyword.push(c);
        }
        skip_space(&mut rest);
        let value = rest.next_if_eq(&'=').map(|_| value(&mut rest));
        if keyword.is_empty() && value.is_none() {
            return pairs;
        }
        pairs.push((keyword, value));
    }
}

fn value(rest: &mut Peekable<Chars<'_>>) -> String {
    skip_space(rest);
    let quoted = rest.next_if_eq(&'\'').is_some();
    let ends = |c: &char| (quoted && *c == '\'') || (!quoted && c.is_ascii_whitespace());
    let mut value = String::new();
    while let Some(c) = rest.next().filter(|c| !ends(c)) {
        match c {
            '\\' => value.extend(rest.next()),
            c => value.push(c),
        }
    }
    value
}

fn skip_space(rest: &mut Peekable<Chars<'_>>) {
    while rest.next_if(char::is_ascii_whitespace).is_some() {}
}

/// Returns the connection string with the defaults that it does not set itself.
pub fn with_defaults(conninfo: &str, defaults: &[(&str, &str)]) -> String {
    match url(conninfo) {
        Some((_, rest)) => conninfo.to_owned() + &missing_parameters(rest, defaults),
        // Of two values for one keyword the later one counts. At the end, a default could become
        // the value of a keyword without one.
        None => defaults
            .iter()
            .map(|(keyword, value)| format!("{keyword}={value} "))
            .chain([conninfo.to_owned()])
            .collect(),
    }
}

/// Returns the connection string with settings that override its own. Values need no quotes.
#[cfg(feature = "cli")]
pub fn with_settings(conninfo: &str, settings: &[(&str, &str)]) -> String {
    let settings = settings.iter().copied();
    match url(conninfo) {
        Some((_, rest)) => conninfo.to_owned() + &parameters(rest, settings),
        // A word without a pair is an error, which an added pair must not change.
        None if !conninfo.is_empty() && !conninfo.contains('=') => conninfo.to_owned(),
        None => settings.fold(conninfo.to_owned(), |text, (keyword, value)| {
            format!("{text} {keyword}={value}")
        }),
    }
}

/// Returns the connection string with another database, of any name.
#[cfg(feature = "cli")]
pub fn with_database(conninfo: &str, name: &str) -> String {
    let value: String = match url(conninfo) {
        Some(_) => name.bytes().map(|byte| format!("%{byte:02X}")).collect(),
        None => format!("'{}'", name.replace('\\', r"\\").replace('\'', r"\'")),
    };
    with_settings(conninfo, &[("dbname", &value)])
}

/// Returns the text to append to a URL: each parameter that it lacks.
fn missing_parameters(rest: &str, defaults: &[(&str, &str)]) -> String {
    let names = query(rest).into_iter().flat_map(|query| query.split('&'));
    let names: Vec<_> = names.filter_map(|it| it.split('=').next()).collect();
    let defaults = defaults.iter().copied();
    parameters(rest, defaults.filter(|(name, _)| !names.contains(name)))
}

/// Returns the text that appends parameters to a URL.
fn parameters<'p>(rest: &str, added: impl Iterator<Item = (&'p str, &'p str)>) -> String {
    let separators = [if query(rest).is_some() { "&" } else { "?" }];
    let separators = separators.into_iter().chain(std::iter::repeat("&"));
    let added = separators.zip(added);
    added
        .map(|(separator, (name, value))| format!("{separator}{name}={value}"))
        .collect()
}

/// Returns the parameters of a URL. A question mark in its credentials begins none.
fn query(rest: &str) -> Option<&str> {
    let end = rest.find(['@', '/']);
    let end = end.filter(|&end| rest[end..].starts_with('@'));
    let place = end.map_or(rest, |end| &rest[end..]);
    Some(place.split_once('?')?.1)
}

#[cfg(test)]
mod tests {
    #[cfg(feature = "cli")]
    #[test]
    fn a_database_may_have_any_name() {
        let with = |conninfo| super::with_database(conninfo, r"it's \ a&b");
        assert_eq!(
            with("host=h dbname=x"),
            r"host=h dbname=x dbname='it\'s \\ a&b'"
        );
        let encoded = "dbname=%69%74%27%73%20%5C%20%61%26%62";
        assert_eq!(
            with("postgres://h/x?a=b"),
            format!("postgres://h/x?a=b&{encoded}")
        );
    }

    #[test]
    fn pairs_are_read_as_libpq_reads_them() {
        let pairs = |text| -> Vec<String> {
            let write = |(keyword, value): (String, Option<String>)| match value {
                Some(value) => format!("{keyword}[{value}]"),
                None => keyword,
            };
            super::pairs(text).into_iter().map(write).collect()
        };
        assert_eq!(pairs("host=h  port = 5432\n"), ["host[h]", "port[5432]"]);
        assert_eq!(pairs("password='a b=c' x=y"), ["password[a b=c]", "x[y]"]);
        assert_eq!(
            pairs(r"password=a\ b x='it\'s'"),
            ["password[a b]", "x[it's]"]
        );
        assert_eq!(pairs("password=my secret"), ["password[my]", "secret"]);
        assert_eq!(pairs("password='never closed"), ["password[never closed]"]);
        assert_eq!(pairs("host= user=x"), ["host[user=x]"]);
        assert_eq!(pairs("=x"), ["[x]"]);
        assert!(pairs(" ").is_empty());
    }

    const DEFAULTS: [(&str, &str); 2] = [("idle", "4"), ("user_timeout", "10")];

    #[test]
    fn a_url_gets_the_defaults_that_it_does_not_set() {
        let cases = [
            ("postgres://h", "?idle=4&user_timeout=10"),
            ("postgres://a:b?c@h/db", "?idle=4&user_timeout=10"),
            ("postgresql:///db?host=/tmp", "&idle=4&user_timeout=10"),
            ("postgres://h?idle=0", "&user_timeout=10"),
            ("postgres://h/db?user_timeout=1&idle=2", ""),
        ];
        for (url, appended) in cases {
            assert_eq!(
                super::with_defaults(url, &DEFAULTS),
                format!("{url}{appended}")
            );
        }
    }

    #[test]
    fn the_pairs_of_the_caller_come_last_and_count() {
        let limited = super::with_defaults("host=h idle=9 password=", &DEFAULTS);
        assert_eq!(limited, "idle=4 user_timeout=10 host=h idle=9 password=");
    }

    #[cfg(feature = "cli")]
    #[test]
    fn settings_come_last_and_count() {
        let cases = [
            ("postgres://a:b?c@h/db", "postgres://a:b?c@h/db?dbname=x"),
            ("postgres://h?dbname=y", "postgres://h?dbname=y&dbname=x"),
            ("host=h dbname=y", "host=h dbname=y dbname=x"),
            ("no pair", "no pair"),
        ];
        for (conninfo, expected) in cases {
            assert_eq!(super::with_settings(conninfo, &[("dbname", "x")]), expected);
        }
    }
}
