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

#[cfg(test)]
mod tests {
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
}
