//! Text for messages: single lines, back-quotes, durations, and errors with their sources.

use chrono::TimeDelta;

/// Converts a text to one line of at most `width` characters.
///
/// Queries contain line breaks, and a hostile client may choose a name with escape sequences.
/// White space and control characters become single spaces. Characters for which
/// [`is_bidi_control`] is true are removed.
pub fn single_line(text: &str, width: usize) -> String {
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        let word = word.trim_matches(is_bidi_control);
        if !line.is_empty() && !word.is_empty() {
            line.push(' ');
        }
        line.extend(word.chars().filter(|c| !is_bidi_control(*c)));
    }
    if line.chars().count() <= width {
        return line;
    }
    let mut short: String = line.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// Converts a query to a [`single_line`] that can be pasted.
///
/// A comment after `--` would swallow what follows it on the same line, so it becomes a
/// comment between `/*` and `*/`.
pub fn single_line_query(query: &str, width: usize) -> String {
    single_line(&without_line_comments(query), width)
}

/// Converts a text to a [`single_line`] in back-quotes. Back-quotes within it become `'`.
pub fn backquoted(text: &str, width: usize) -> String {
    format!("`{}`", single_line(text, width).replace('`', "'"))
}

/// Replaces the literal after each word `PASSWORD` of a query by `'…'`.
///
/// A query that the server has cut may end within the literal.
pub fn without_passwords(query: &str) -> String {
    const WORD: &str = "password";
    let lower = query.to_ascii_lowercase();
    let (mut text, mut from) = (String::new(), 0);
    while let Some(at) = lower[from..].find(WORD) {
        let end = from + at + WORD.len();
        text.push_str(&query[from..end]);
        let spaces = query[end..].len()
            - query[end..]
                .trim_start_matches([' ', '=', '\t', '\n', '\r'])
                .len();
        from = end + spaces;
        text.push_str(&query[end..from]);
        let literal = literal_length(&query[from..]);
        if literal > 0 {
            text.push_str("'…'");
        }
        from += literal;
    }
    text.push_str(&query[from..]);
    text
}

/// Returns the length of the string literal that a text starts with; 0 if there is none.
fn literal_length(text: &str) -> usize {
    let (prefix, has_escapes) = match text.as_bytes() {
        [b'\'', ..] => (1, false),
        [b'E' | b'e', b'\'', ..] => (2, true),
        [b'U' | b'u', b'&', b'\'', ..] => (3, false),
        [b'$', ..] => return dollar_quoted_length(text),
        _ => return 0,
    };
    let mut rest = text.char_indices().skip(prefix).peekable();
    while let Some((at, c)) = rest.next() {
        match c {
            '\\' if has_escapes => drop(rest.next()),
            '\'' if rest.next_if(|(_, next)| *next == '\'').is_none() => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn dollar_quoted_length(text: &str) -> usize {
    let is_tag = |c: char| c.is_alphanumeric() || c == '_';
    let name = text[1..].len() - text[1..].trim_start_matches(is_tag).len();
    // `$1` is a parameter.
    if !text[1 + name..].starts_with('$') || text[1..].starts_with(|c: char| c.is_ascii_digit()) {
        return 0;
    }
    let (tag, body) = text.split_at(name + 2);
    body.find(tag).map_or(text.len(), |end| 2 * tag.len() + end)
}

/// Quotes a text as a literal of SQL, on one line and safe for a terminal.
pub fn quote_literal(text: &str) -> String {
    let is_unsafe = |c: char| c.is_control() || is_bidi_control(c);
    let quoted = text.replace('\'', "''");
    if !text.contains(is_unsafe) {
        return format!("'{quoted}'");
    }
    let escape = |c: char| match c {
        '\\' => r"\\".to_owned(),
        c if is_unsafe(c) => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    format!("E'{}'", quoted.chars().map(escape).collect::<String>())
}

/// Replaces comments that end with their line by comments that do not.
fn without_line_comments(query: &str) -> String {
    let mut text = String::with_capacity(query.len());
    let mut rest = query;
    while let Some(c) = rest.chars().next() {
        if let Some(comment) = rest.strip_prefix("--") {
            let end = comment.find(['\n', '\r']).unwrap_or(comment.len());
            let inner = comment[..end].replace("*/", "* /").replace("/*", "/ *");
            text.push_str(&format!("/*{} */ ", inner.trim_end()));
            rest = &comment[end..];
            continue;
        }
        let length = match c {
            '\'' | '"' => quoted_length(rest, c, text.ends_with(['e', 'E'])),
            '$' => dollar_quoted_length(rest),
            '/' if rest.starts_with("/*") => block_comment_length(rest),
            _ => 0,
        };
        let length = length.max(c.len_utf8());
        text.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    text
}

/// Returns the length of the quoted text that a query starts with.
fn quoted_length(query: &str, quote: char, has_escapes: bool) -> usize {
    let mut rest = query.char_indices().skip(1).peekable();
    while let Some((at, c)) = rest.next() {
        match c {
            '\\' if has_escapes && quote == '\'' => drop(rest.next()),
            c if c == quote && rest.next_if(|(_, next)| *next == quote).is_none() => {
                return at + 1;
            }
            _ => {}
        }
    }
    query.len()
}

/// Returns the length of the comment that a query starts with; such comments nest.
fn block_comment_length(query: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < query.len() {
        let rest = &query[at..];
        at += match rest {
            it if it.starts_with("/*") => {
                depth += 1;
                2
            }
            it if it.starts_with("*/") => {
                depth -= 1;
                2
            }
            it => it.chars().next().map_or(1, char::len_utf8),
        };
        if depth == 0 {
            return at;
        }
    }
    query.len()
}

/// Quotes the name of a relation or schema as an identifier of SQL, if it needs quotes.
pub fn quote_identifier(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '$';
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    if starts && name.chars().all(is_plain) {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Returns true for characters that change the direction of writing.
pub fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Formats a duration in its two largest units; a negative duration is `0 ms`.
pub fn format_duration(duration: TimeDelta) -> String {
    let millis = duration.num_milliseconds().max(0);
    let seconds = millis / 1000;
    match seconds {
        0 => format!("{millis} ms"),
        1..60 => format!("{seconds}.{} s", millis % 1000 / 100),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86400, seconds % 86400 / 3600),
    }
}

/// Decodes the `%XX` of a URL. Other text is kept; bytes that are not UTF-8 become `�`.
pub fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let encoded = after.first_chunk().filter(|_| byte == b'%');
        match encoded.and_then(hexadecimal) {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hexadecimal(digits: &[u8; 2]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()
}

/// Formats an error with its chain of sources. A source that the text names at its end already
/// is not repeated.
pub fn with_sources(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| (*error).source());
    sources.fold(error.to_string(), |text, source| {
        let source = source.to_string();
        match text.ends_with(&single_line(&source, usize::MAX)) {
            true => text,
            false => format!("{text}: {source}"),
        }
    })
}

/// Durations as numbers of seconds with a fraction, for `serde`.
#[cfg(feature = "serde")]
pub mod seconds {
    use chrono::TimeDelta;
    use serde::{Serialize, Serializer};

    /// Serializes a duration in seconds.
    pub fn of<S: Serializer>(duration: &TimeDelta, to: S) -> Result<S::Ok, S::Error> {
        duration.as_seconds_f64().serialize(to)
    }

    /// Serializes a duration of the standard library in seconds.
    pub fn of_std<S: Serializer>(duration: &std::time::Duration, to: S) -> Result<S::Ok, S::Error> {
        duration.as_secs_f64().serialize(to)
    }

    /// Serializes an optional duration in seconds.
    #[allow(clippy::ref_option)] // the signature that serde calls
    pub fn serialize<S: Serializer>(
        duration: &Option<TimeDelta>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        duration.map(|it| it.as_seconds_f64()).serialize(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_and_control_characters_become_single_spaces() {
        assert_eq!(
            single_line("SELECT 1\n\tFROM\u{1b}[31m x\0", 80),
            "SELECT 1 FROM [31m x"
        );
    }

    #[test]
    fn the_literal_after_the_word_password_is_removed() {
        let cases = [
            (
                "ALTER ROLE a PASSWORD 'se''cret' VALID",
                "ALTER ROLE a PASSWORD '…' VALID",
            ),
            (
                "CREATE USER a password\n E'x\\'y' LOGIN",
                "CREATE USER a password\n '…' LOGIN",
            ),
            (
                "ALTER ROLE a PASSWORD $x$se$cret$x$; SELECT 1",
                "ALTER ROLE a PASSWORD '…'; SELECT 1",
            ),
            (
                "ALTER ROLE a PASSWORD 'never clo",
                "ALTER ROLE a PASSWORD '…'",
            ),
            (
                "SET password = 'x'; SET password='ä'",
                "SET password = '…'; SET password='…'",
            ),
            ("x.password = $1 AND y = $2", "x.password = $1 AND y = $2"),
            ("SELECT password FROM users", "SELECT password FROM users"),
        ];
        for (query, expected) in cases {
            assert_eq!(without_passwords(query), expected);
        }
    }

    #[test]
    fn a_long_text_is_cut_by_characters() {
        assert_eq!(single_line("äöüäöü", 4), "äöü…");
        assert_eq!(single_line("äöü", 3), "äöü");
    }

    #[test]
    fn a_line_comment_does_not_swallow_the_rest_of_a_query() {
        let line = |query| single_line_query(query, 200);
        assert_eq!(line("SELECT 1 -- one\nFROM x"), "SELECT 1 /* one */ FROM x");
        assert_eq!(line("SELECT 1 -- end"), "SELECT 1 /* end */");
        assert_eq!(line("SELECT 1 --*/ /*\r\n, 2"), "SELECT 1 /** / / * */ , 2");
        for same in [
            "SELECT '--', E'\\'--', \"a--b\", $$--$$, $t$ -- $ $t$",
            "SELECT 1 /* -- /* x */ -- */, 2 - -1",
            "SELECT 'it''s -- ' || $1",
            "SELECT 'unfinished -- ",
            "SELECT $tag$ -- ",
        ] {
            assert_eq!(line(same), same.trim_end());
        }
    }

    #[test]
    fn an_identifier_is_quoted_only_if_necessary() {
        assert_eq!(quote_identifier("users_2"), "users_2");
        assert_eq!(quote_identifier("CamelCase"), "\"CamelCase\"");
        assert_eq!(quote_identifier("Odd.\"Tbl\""), "\"Odd.\"\"Tbl\"\"\"");
        assert_eq!(quote_identifier("2nd"), "\"2nd\"");
    }

    #[test]
    fn no_query_causes_a_panic() {
        let pieces = [
            "--", "/*", "*/", "'", "\"", "$", "$$", "$a$", "E", "\\", "ä", "\n", "x", "/", "🦀",
        ];
        let count = pieces.len();
        for n in 0..count.pow(5) {
            let query: String = (0..5).map(|i| pieces[n / count.pow(i) % count]).collect();
            let line = single_line_query(&query, 100);
            assert!(!line.contains('\n'), "{query:?}");
        }
    }

    #[test]
    fn a_back_quote_does_not_end_a_quotation() {
        assert_eq!(backquoted("a`; b", 80), "`a'; b`");
    }

    #[test]
    fn a_literal_is_one_line_without_control_characters() {
        assert_eq!(quote_literal(r"it's \n"), r"'it''s \n'");
        assert_eq!(quote_literal("a\n\\'\u{1b}"), r"E'a\u000a\\''\u001b'");
    }

    #[test]
    fn terminal_control_characters_are_removed() {
        let hostile = "\u{1b}[2J\u{1b}]0;x\u{7}a\u{202e}b\u{9b}c\r\u{0}";
        let line = single_line(hostile, 60);
        assert!(!line.contains(char::is_control), "{line:?}");
        assert!(!line.contains('\u{202e}'), "{line:?}");
    }

    #[test]
    fn a_duration_is_shown_in_its_largest_units() {
        let format = |millis| format_duration(TimeDelta::milliseconds(millis));
        assert_eq!(format(-3), "0 ms");
        assert_eq!(format(350), "350 ms");
        assert_eq!(format(4_270), "4.2 s");
        assert_eq!(format(303_000), "5 min 3 s");
        assert_eq!(format(7_500_000), "2 h 5 min");
        assert_eq!(format(273_600_000), "3 d 4 h");
    }
}
