//! Texts of others, fit for one line of a terminal.

/// The text in one line of at most `width` characters, without control characters.
pub(crate) fn one_line(text: &str, width: usize) -> String {
    let mut words = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        if !words.is_empty() && !word.is_empty() {
            words.push(' ');
        }
        words.push_str(word);
    }
    if words.chars().count() <= width {
        return words;
    }
    let kept = words.chars().take(width.saturating_sub(1));
    kept.chain(std::iter::once('…')).collect()
}

#[cfg(test)]
mod tests {
    use super::one_line;

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
}
