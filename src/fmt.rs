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

/// Converts a text to a [`single_line`] in back-quotes. Back-quotes within it become `'`.
pub fn backquoted(text: &str, width: usize) -> String {
    format!("`{}`", single_line(text, width).replace('`', "'"))
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

/// Formats an error with its chain of sources in one line.
pub fn with_sources(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| (*error).source());
    sources.fold(error.to_string(), |text, source| {
        format!("{text}: {source}")
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
    fn a_long_text_is_cut_by_characters() {
        assert_eq!(single_line("äöüäöü", 4), "äöü…");
        assert_eq!(single_line("äöü", 3), "äöü");
    }

    #[test]
    fn a_back_quote_does_not_end_a_quotation() {
        assert_eq!(backquoted("a`; b", 80), "`a'; b`");
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
