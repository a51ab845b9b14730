//! The tokens of SQL, as the server's own scanner reads them.
//!
//! Rules: [Lexical Structure][pg]. Only the boundaries of tokens matter here, not their values.
//!
//! [pg]: https://www.postgresql.org/docs/current/sql-syntax-lexical.html

use super::unsplittable::Unsplittable;

/// The kind of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// A key word, or a name without quotes.
    Word,
    /// A string in quotes or dollar quotes.
    String,
    Open,
    Close,
    Semicolon,
    /// A name in quotes, a number, a parameter or a part of an operator.
    Other,
}

/// A token, and its place in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token<'t> {
    pub(crate) kind: TokenKind,
    pub(crate) text: &'t str,
    pub(crate) start: usize,
}

impl<'t> Token<'t> {
    pub(crate) fn end(&self) -> usize {
        self.start + self.text.len()
    }

    /// Returns true for this key word, in any case.
    pub(crate) fn is(&self, word: &str) -> bool {
        self.kind == TokenKind::Word && self.text.eq_ignore_ascii_case(word)
    }

    /// Returns the content of a string, in which doubled quotes and escapes remain.
    #[cfg(feature = "cli")]
    pub(crate) fn content(&self) -> Option<&'t str> {
        if self.kind != TokenKind::String {
            return None;
        }
        let (_, content) = self.text.split_once(['\'', '$'])?;
        if self.text.starts_with('$') {
            let (tag, content) = content.split_once('$')?;
            return content.get(..content.len().checked_sub(tag.len() + 2)?);
        }
        content.strip_suffix('\'')
    }
}

/// Reads the tokens of a text, without white space and comments.
pub(crate) struct Lexer<'t> {
    text: &'t str,
    at: usize,
    /// True if a backslash escapes in each string, not only in `E'…'`.
    escapes: bool,
}

impl<'t> Iterator for Lexer<'t> {
    type Item = Result<Token<'t>, Unsplittable>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Err(error) = self.skip_blanks() {
            self.at = self.text.len();
            return Some(Err(error));
        }
        let start = self.at;
        let first = self.byte(0)?;
        Some(self.token(first).map(|kind| Token {
            kind,
            text: &self.text[start..self.at],
            start,
        }))
    }
}

impl<'t> Lexer<'t> {
    pub(crate) fn new(text: &'t str, standard_conforming_strings: bool) -> Self {
        Self {
            text,
            at: 0,
            escapes: !standard_conforming_strings,
        }
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn byte(&self, offset: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + offset).copied()
    }

    /// Skips bytes, which must be whole characters.
    fn skip_bytes(&mut self, mut is_skipped: impl FnMut(u8) -> bool) {
        while self.byte(0).is_some_and(&mut is_skipped) {
            self.at += 1;
        }
    }

    fn skip_blanks(&mut self) -> Result<(), Unsplittable> {
        loop {
            self.skip_bytes(is_space);
            if self.rest().starts_with("--") {
                self.skip_bytes(|byte| !is_line_end(byte));
            } else if self.rest().starts_with("/*") {
                self.skip_comment()?;
            } else {
                return Ok(());
            }
        }
    }

    /// Skips a comment, which may contain others.
    fn skip_comment(&mut self) -> Result<(), Unsplittable> {
        let (start, mut depth) = (self.at, 0);
        while self.at < self.text.len() {
            let bytes = &self.text.as_bytes()[self.at..];
            match bytes {
                [b'/', b'*', ..] => depth += 1,
                [b'*', b'/', ..] => depth -= 1,
                _ => {
                    self.at += 1;
                    continue;
                }
            }
            self.at += 2;
            if depth == 0 {
                return Ok(());
            }
        }
        Err(Unsplittable::unclosed("comment", self.text, start))
    }

    fn token(&mut self, first: u8) -> Result<TokenKind, Unsplittable> {
        let second = self.byte(1);
        match first {
            b'\'' => self.string(1, self.escapes),
            b'E' | b'e' if second == Some(b'\'') => self.string(2, true),
            b'N' | b'n' if second == Some(b'\'') => self.string(2, self.escapes),
            b'B' | b'b' | b'X' | b'x' if second == Some(b'\'') => self.string(2, false),
            b'U' | b'u' if second == Some(b'&') => self.unicode(),
            b'"' => self.quoted_name(1),
            b'$' => self.dollar(),
            b'0'..=b'9' => Ok(self.number()),
            b'\\' => Err(Unsplittable::backslash(self.text, self.at)),
            byte if is_name_start(byte) => {
                self.skip_bytes(is_in_name);
                Ok(TokenKind::Word)
            }
            byte => {
                self.at += 1;
                Ok(match byte {
                    b'(' => TokenKind::Open,
                    b')' => TokenKind::Close,
                    b';' => TokenKind::Semicolon,
                    _ => TokenKind::Other,
                })
            }
        }
    }

    /// Reads `U&'…'`, `U&"…"`, or a name.
    fn unicode(&mut self) -> Result<TokenKind, Unsplittable> {
        match self.byte(2) {
            // Without standard strings the server refuses it.
            Some(b'\'') => self.string(3, false),
            Some(b'"') => self.quoted_name(3),
            _ => {
                self.skip_bytes(is_in_name);
                Ok(TokenKind::Word)
            }
        }
    }

    fn quoted_name(&mut self, prefix: usize) -> Result<TokenKind, Unsplittable> {
        let start = self.at;
        self.at += prefix;
        if self.skip_quoted(b'"', false) {
            Ok(TokenKind::Other)
        } else {
            Err(Unsplittable::unclosed("quoted name", self.text, start))
        }
    }

    /// Reads a string, and the parts that continue it on further lines.
    fn string(&mut self, prefix: usize, escapes: bool) -> Result<TokenKind, Unsplittable> {
        let start = self.at;
        self.at += prefix;
        while self.skip_quoted(b'\'', escapes) {
            match self.continuation() {
                Some(at) => self.at = at,
                None => return Ok(TokenKind::String),
            }
        }
        Err(Unsplittable::unclosed("string", self.text, start))
    }

    /// Skips to the end of a quoted text; false if it has none. A doubled quote does not end it.
    fn skip_quoted(&mut self, quote: u8, escapes: bool) -> bool {
        while let Some(byte) = self.byte(0) {
            self.at += 1;
            match byte {
                b'\\' if escapes => self.at += 1,
                byte if byte != quote => {}
                _ if self.byte(0) == Some(quote) => self.at += 1,
                _ => return true,
            }
        }
        self.at = self.text.len();
        false
    }

    /// Returns the start of the text that continues a string: behind a quote on a later line.
    fn continuation(&self) -> Option<usize> {
        let mut ahead = Lexer { ..*self };
        let mut has_line_end = false;
        loop {
            ahead.skip_bytes(|byte| {
                has_line_end |= is_line_end(byte);
                is_space(byte)
            });
            if !ahead.rest().starts_with("--") {
                break;
            }
            ahead.skip_bytes(|byte| !is_line_end(byte));
        }
        let continues = has_line_end && ahead.byte(0) == Some(b'\'');
        continues.then_some(ahead.at + 1)
    }

    /// Reads a string in dollar quotes, a parameter, or a dollar.
    fn dollar(&mut self) -> Result<TokenKind, Unsplittable> {
        let start = self.at;
        self.at += 1;
        if self.byte(0).is_some_and(|byte| byte.is_ascii_digit()) {
            self.skip_bytes(|byte| byte.is_ascii_digit());
            return Ok(TokenKind::Other);
        }
        let tag = self.rest();
        let length = tag.bytes().take_while(|byte| is_in_tag(*byte)).count();
        if tag.as_bytes().get(length) != Some(&b'$') {
            return Ok(TokenKind::Other);
        }
        let quote = &self.text[start..=self.at + length];
        self.at = start + quote.len();
        match self.rest().find(quote) {
            Some(end) => self.at += end + quote.len(),
            None => return Err(Unsplittable::unclosed("dollar quote", self.text, start)),
        }
        Ok(TokenKind::String)
    }

    /// Reads a number, whose exponent is no name: a dollar quote may follow it.
    fn number(&mut self) -> TokenKind {
        let is_digit = |byte: u8| byte.is_ascii_digit();
        self.skip_bytes(|byte| is_digit(byte) || byte == b'.' || byte == b'_');
        if matches!(self.byte(0), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(self.byte(1), Some(b'+' | b'-')));
            if self.byte(1 + sign).is_some_and(is_digit) {
                self.at += 1 + sign;
                self.skip_bytes(is_digit);
            }
        }
        TokenKind::Other
    }
}

/// The vertical tab is white space from PostgreSQL 16 on; before, it is an error.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

fn is_name_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || !byte.is_ascii()
}

fn is_in_tag(byte: u8) -> bool {
    is_name_start(byte) || byte.is_ascii_digit()
}

fn is_in_name(byte: u8) -> bool {
    is_in_tag(byte) || byte == b'$'
}
