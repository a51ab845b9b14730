//! Texts of others, fit for a terminal.
//!
//! A client may call itself by escape sequences, and its query may have line breaks,
//! 64 KB, and characters that turn the direction of writing or pile up on each other.

use unicode_width::UnicodeWidthChar;

/// How many marks a character may carry; Vietnamese needs two.
const MARKS: usize = 2;

/// Puts a text on one line, without anything that steers a terminal.
pub fn clean(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(1024));
    let (mut gap, mut marks) = (false, 0);
    for c in text.chars() {
        if c.is_whitespace() || c.is_control() {
            gap = true;
            continue;
        }
        if is_invisible(c) {
            continue;
        }
        match c.width() {
            Some(0) if line.is_empty() || gap || marks >= MARKS => continue,
            Some(0) => marks += 1,
            _ => marks = 0,
        }
        if gap && !line.is_empty() {
            line.push(' ');
        }
        gap = false;
        line.push(c);
    }
    line
}

/// Marks of direction, joiners, selectors of variants, tags: no terminal agrees with another on them.
pub fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'
    )
}

/// How many columns of a terminal a clean text takes.
pub fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// Cuts a clean text to so many columns.
pub fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let (mut short, mut left) = (String::new(), columns.saturating_sub(1));
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if wide > left {
            break;
        }
        left -= wide;
        short.push(c);
    }
    if columns > 0 {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_comes_on_one_line() {
        assert_eq!(clean("  SELECT 1\r\n\tFROM  x "), "SELECT 1 FROM x");
    }

    #[test]
    fn nothing_that_steers_a_terminal_is_left() {
        let hostile = "\u{1b}[2J\u{1b}]0;x\u{7}a\u{202e}b\u{9b}c\r\u{0}\u{200d}\u{7f}d\u{2028}e";
        let line = clean(hostile);
        assert_eq!(line, "[2J ]0;x ab c d e");
        assert!(!line.contains(|c: char| c.is_control() || is_invisible(c)));
    }

    #[test]
    fn marks_do_not_pile_up() {
        let pile = format!("e{}x", "\u{301}".repeat(1000));
        assert_eq!(clean(&pile), "e\u{301}\u{301}x");
        assert_eq!(clean("\u{301}a"), "a");
    }

    #[test]
    fn a_text_is_cut_by_the_columns_it_takes() {
        assert_eq!(cut("漢字漢字", 5), "漢字…");
        assert_eq!(width(&cut("漢字漢字", 6)), 5);
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöü", 0), "");
    }

    #[test]
    fn sixty_four_kilobytes_are_cut_to_the_columns() {
        let long = clean(&"漢\u{1b}[31m\n".repeat(8192));
        assert!(width(&cut(&long, 80)) <= 80);
    }
}
