//! The key words of a statement.

use super::lexer::{Lexer, TokenKind};

/// Returns the first key word of a statement, in lower case.
pub(crate) fn first_word(sql: &str) -> String {
    let mut tokens = Lexer::new(sql, true).map_while(Result::ok);
    let first = tokens.find(|token| token.kind == TokenKind::Word);
    first.map_or_else(String::new, |word| word.text.to_ascii_lowercase())
}

/// The key words and plain names of a statement, in lower case and in order.
///
/// Of a text that cannot be read it has the words before the fault.
#[cfg(feature = "cli")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Words(Vec<String>);

#[cfg(feature = "cli")]
impl Words {
    /// Reads the words outside of strings.
    pub(crate) fn of(sql: &str) -> Self {
        let tokens = Lexer::new(sql, true).map_while(Result::ok);
        let words = tokens.filter(|token| token.kind == TokenKind::Word);
        Self(words.map(|word| word.text.to_ascii_lowercase()).collect())
    }

    /// Reads all words of the content of a string, those in inner quotes and comments too.
    pub(crate) fn within(content: &str) -> Self {
        let is_in_name = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
        let words = content.split(|c| !is_in_name(c));
        let words = words.filter(|word| !word.is_empty());
        Self(words.map(str::to_ascii_lowercase).collect())
    }

    pub(crate) fn first(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }

    pub(crate) fn has(&self, words: &[&str]) -> bool {
        self.0.iter().any(|word| words.contains(&word.as_str()))
    }

    /// Returns true if a word of each list follows one of the list before.
    pub(crate) fn has_sequence(&self, sequence: &[&[&str]]) -> bool {
        let matches = |words: &[String]| {
            let mut pairs = words.iter().zip(sequence);
            pairs.all(|(word, allowed)| allowed.contains(&word.as_str()))
        };
        self.0.windows(sequence.len()).any(matches)
    }

    /// Returns the words from the first of these on.
    pub(crate) fn from(&self, words: &[&str]) -> Option<Self> {
        let mut all = self.0.iter();
        let at = all.position(|word| words.contains(&word.as_str()))?;
        Some(Self(self.0[at..].to_vec()))
    }
}
