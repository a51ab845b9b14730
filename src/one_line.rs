//! Texts of others, fit for one line of a terminal.

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

/// The same in back-quotes, which then mark its end.
pub(crate) fn quoted(text: &str, width: usize) -> String {
    format!("`{}`", one_line(text, width).replace('`', "'"))
}

fn turns_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::{one_line, quoted};

    #[test]
    fn white_space_and_control_characters_become_single_spaces() {
        assert_eq!(
            one_line("SELECT 1\n\tFROM\u{1b}[31m x\0", 80),
            "SELECT 1 FROM [31m x"
        );
    }

    #[test]
    fn a_long_text_is_cut_by_characters() {
        assert_eq!(one_line("äöüäöü", 4), "äöü…");
        assert_eq!(one_line("äöü", 3), "äöü");
    }

    #[test]
    fn a_back_quote_does_not_end_a_quotation() {
        assert_eq!(quoted("a`; b", 80), "`a'; b`");
    }

    #[test]
    fn nothing_that_steers_a_terminal_is_left() {
        let hostile = "\u{1b}[2J\u{1b}]0;x\u{7}a\u{202e}b\u{9b}c\r\u{0}";
        let line = one_line(hostile, 60);
        assert!(!line.contains(char::is_control), "{line:?}");
        assert!(!line.contains('\u{202e}'), "{line:?}");
    }
}
