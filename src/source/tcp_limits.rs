//! The TCP limits of a connection from a URL.
//!
//! A connection whose network is silent ends after two hours by the default of most systems. For a
//! watcher that is too long.

use super::conninfo;

/// The limits in the words of libpq. They end a silent connection after about ten seconds.
#[cfg(feature = "postgres")]
pub(super) const LIBPQ: [(&str, &str); 4] = [
    ("keepalives_idle", "4"),
    ("keepalives_interval", "2"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "10000"), // milliseconds
];

/// The same limits in the words of tokio-postgres.
#[cfg(feature = "async")]
pub(super) const TOKIO_POSTGRES: [(&str, &str); 4] = [
    ("keepalives_idle", "4"),
    ("keepalives_interval", "2"),
    ("keepalives_retries", "3"),
    ("tcp_user_timeout", "10"), // seconds
];

/// Returns the connection string with the limits that it does not set itself.
pub(super) fn with_limits(conninfo: &str, limits: &[(&str, &str)]) -> String {
    match conninfo::url(conninfo) {
        Some((_, rest)) => conninfo.to_owned() + &missing_parameters(rest, limits),
        // Of two values for one keyword the later one counts. At the end, a limit could become the
        // value of a keyword without one.
        None => limits
            .iter()
            .map(|(keyword, value)| format!("{keyword}={value} "))
            .chain([conninfo.to_owned()])
            .collect(),
    }
}

/// Returns the text to append to a URL: each parameter that it lacks.
fn missing_parameters(rest: &str, limits: &[(&str, &str)]) -> String {
    let query = query(rest);
    let names = query.into_iter().flat_map(|query| query.split('&'));
    let names: Vec<_> = names.filter_map(|it| it.split('=').next()).collect();
    let missing = limits.iter().filter(|(name, _)| !names.contains(name));
    let missing: Vec<_> = missing
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    match query {
        _ if missing.is_empty() => String::new(),
        None => format!("?{}", missing.join("&")),
        Some(_) => format!("&{}", missing.join("&")),
    }
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
    use super::*;

    const LIMITS: [(&str, &str); 2] = [("idle", "4"), ("user_timeout", "10")];

    #[test]
    fn a_url_gets_the_limits_that_it_does_not_set() {
        let cases = [
            ("postgres://h", "?idle=4&user_timeout=10"),
            ("postgres://a:b?c@h/db", "?idle=4&user_timeout=10"),
            ("postgresql:///db?host=/tmp", "&idle=4&user_timeout=10"),
            ("postgres://h?idle=0", "&user_timeout=10"),
            ("postgres://h/db?user_timeout=1&idle=2", ""),
        ];
        for (url, appended) in cases {
            assert_eq!(with_limits(url, &LIMITS), format!("{url}{appended}"));
        }
    }

    #[test]
    fn the_pairs_of_the_caller_come_last_and_count() {
        let limited = with_limits("host=h idle=9 password=", &LIMITS);
        assert_eq!(limited, "idle=4 user_timeout=10 host=h idle=9 password=");
    }
}
