//! Server text for a terminal: on one line, with a known width.
//!
//! Names and queries of other sessions may hold escape sequences, line breaks and 64 KB.
//! The library removes these. A table also needs the width of each cell, so characters
//! whose width differs between terminals are removed here.

use diesel_pglock::internal::{is_bidi_control, single_line, single_line_query};
use unicode_width::UnicodeWidthChar;

/// The combining marks that a character keeps; Vietnamese needs two.
const MAX_MARKS: usize = 2;

/// Puts a text on one line, without control and invisible characters.
pub fn clean(text: &str) -> String {
    single_line(&without_stacked_marks(text), usize::MAX)
}

/// Puts a query on one line that can be pasted: no comment swallows what follows it.
pub fn clean_query(query: &str) -> String {
    clean(&single_line_query(query, usize::MAX))
}

/// Keeps the lines of a text and their indents, without control and invisible characters.
///
/// A comment of SQL ends with its line, so a query on one line could not be pasted.
pub fn clean_lines(text: &str) -> String {
    let lines = text.split(['\n', '\r']).map(|line| {
        let line = line.replace('\t', "    ");
        let indent = line.len() - line.trim_start_matches(' ').len();
        " ".repeat(indent) + &clean(&line)
    });
    let lines: Vec<String> = lines.map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n").trim_matches('\n').to_owned()
}

/// A mark at the start of a word would combine with the space before it.
fn without_stacked_marks(text: &str) -> String {
    let mut marks = MAX_MARKS;
    let visible = text.chars().filter(|c| !is_invisible(*c));
    let kept = visible.filter(|c| {
        marks = match c.width() {
            _ if c.is_whitespace() || c.is_control() => MAX_MARKS,
            Some(0) => marks + 1,
            _ => 0,
        };
        marks <= MAX_MARKS
    });
    kept.collect()
}

/// Returns true for direction marks, joiners, variation selectors and tags.
///
/// Terminals do not agree on their width.
pub fn is_invisible(c: char) -> bool {
    is_bidi_control(c)
        || matches!(
            c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
                | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2065}'
                | '\u{206a}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
                | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Returns the number of terminal columns of a clean text.
pub fn width(text: &str) -> usize {
    text.chars().map(column_width).sum()
}

fn column_width(c: char) -> usize {
    c.width().unwrap_or(0)
}

/// Cuts a clean text to a number of columns; an ellipsis marks the cut.
pub fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut left = columns.saturating_sub(1);
    let fits = |c: &char| match left.checked_sub(column_width(*c)) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    };
    let ellipsis = (columns > 0).then_some('…');
    text.chars().take_while(fits).chain(ellipsis).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_put_on_one_line() {
        assert_eq!(clean("  SELECT 1\r\n\tFROM  x "), "SELECT 1 FROM x");
    }

    #[test]
    fn the_lines_of_a_query_are_kept() {
        let query = "SELECT 1 -- one\n\tFROM x\u{1b}[2J\n  WHERE y\u{9b}\n";
        assert_eq!(
            clean_lines(query),
            "SELECT 1 -- one\n    FROM x [2J\n  WHERE y"
        );
    }

    #[test]
    fn control_characters_are_removed() {
        let hostile = "\u{1b}[2J\u{1b}]0;x\u{7}a\u{202e}b\u{9b}c\r\u{0}\u{200d}\u{7f}d\u{2028}e";
        let line = clean(hostile);
        assert_eq!(line, "[2J ]0;x ab c d e");
        assert!(!line.contains(|c: char| c.is_control() || is_invisible(c)));
    }

    #[test]
    fn stacked_marks_are_removed() {
        let stacked = format!("e{}x", "\u{301}".repeat(1000));
        assert_eq!(clean(&stacked), "e\u{301}\u{301}x");
        assert_eq!(clean("\u{301}a"), "a");
        assert_eq!(clean("a \u{200b} \u{301}b"), "a b");
    }

    #[test]
    fn a_text_is_cut_by_its_width_in_columns() {
        assert_eq!(cut("漢字漢字", 5), "漢字…");
        assert_eq!(width(&cut("漢字漢字", 6)), 5);
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöü", 0), "");
    }

    #[test]
    fn a_text_of_many_kilobytes_is_cut_to_the_columns() {
        let long = clean(&"漢\u{1b}[31m\n".repeat(8192));
        assert!(width(&cut(&long, 80)) <= 80);
    }
}
