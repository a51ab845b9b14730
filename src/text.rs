//! Texts from the server, made fit for one line of a terminal.

use chrono::TimeDelta;

/// Puts a text on one line of at most `width` characters.
///
/// Queries hold line breaks, and a hostile client may call itself by escape
/// sequences: control characters and those that turn the direction of writing go.
pub(crate) fn one_line(text: &str, width: usize) -> String {
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        let word = word.trim_matches(turns_direction);
        if !line.is_empty() && !word.is_empty() {
            line.push(' ');
        }
        line.extend(word.chars().filter(|c| !turns_direction(*c)));
    }
    if line.chars().count() <= width {
        return line;
    }
    let mut short: String = line.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

fn turns_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A duration in its two largest units.
pub(crate) fn brief(duration: TimeDelta) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_of_many_lines_becomes_one() {
        assert_eq!(
            one_line("SELECT *\n\t  FROM users;\n", 60),
            "SELECT * FROM users;"
        );
        assert_eq!(one_line("SELECT * FROM users", 10), "SELECT * …");
        assert_eq!(one_line("", 10), "");
    }

    #[test]
    fn nothing_that_steers_a_terminal_is_left() {
        let hostile = "\u{1b}[2J\u{1b}]0;x\u{7}a\u{202e}b\u{9b}c\r\u{0}";
        let line = one_line(hostile, 60);
        assert!(!line.contains(char::is_control), "{line:?}");
        assert!(!line.contains('\u{202e}'), "{line:?}");
    }

    #[test]
    fn a_duration_is_told_in_its_largest_units() {
        let brief = |millis| brief(TimeDelta::milliseconds(millis));
        assert_eq!(brief(-3), "0 ms");
        assert_eq!(brief(350), "350 ms");
        assert_eq!(brief(4_270), "4.2 s");
        assert_eq!(brief(303_000), "5 min 3 s");
        assert_eq!(brief(7_500_000), "2 h 5 min");
        assert_eq!(brief(273_600_000), "3 d 4 h");
    }
}
