//! The statements of a text, as the server separates them.

use super::lexer::{Lexer, Token, TokenKind};
use super::unsplittable::{Unsplittable, line_at};

/// A statement of a text, from its first token to the last before the semicolon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SqlStatement<'t> {
    pub(crate) text: &'t str,
    /// The line in which it starts, from 1.
    pub(crate) line: usize,
}

/// Splits a text into its statements.
///
/// The second argument is the setting of that name in the session that the text is sent to.
pub(crate) fn split(
    text: &str,
    standard_conforming_strings: bool,
) -> Result<Vec<SqlStatement<'_>>, Unsplittable> {
    refuse_settings(text)?;
    let mut statements = Vec::new();
    let mut open = OpenStatement::default();
    for token in Lexer::new(text, standard_conforming_strings) {
        let token = token?;
        if token.kind == TokenKind::Semicolon && open.may_end() {
            statements.extend(open.finish(text)?);
            open = OpenStatement::default();
        } else {
            open.push(token);
        }
    }
    if open.body_depth > 0 {
        let start = open.start.unwrap_or_default();
        return Err(Unsplittable::unclosed("`BEGIN ATOMIC`", text, start));
    }
    statements.extend(open.finish(text)?);
    Ok(statements)
}

/// Refuses a text whose own settings change how the server reads the rest of it.
///
/// The server reads the text as a whole before it runs the first statement. Sent in parts, the
/// later ones would be read under the new setting.
fn refuse_settings(text: &str) -> Result<(), Unsplittable> {
    let lower = text.to_ascii_lowercase();
    if text.contains('\\') && lower.contains("standard_conforming_strings") {
        return Err(Unsplittable::Setting("standard_conforming_strings"));
    }
    let sets_encoding = || lower.contains("client_encoding") || lower.contains("names");
    if !text.is_ascii() && sets_encoding() {
        return refuse_encoding(text);
    }
    Ok(())
}

fn refuse_encoding(text: &str) -> Result<(), Unsplittable> {
    // A text that cannot be read is reported by its own error.
    let tokens: Vec<_> = Lexer::new(text, true).map_while(Result::ok).collect();
    let sets_names = |pair: &[Token<'_>]| pair[0].is("set") && pair[1].is("names");
    let is_setting = text.to_ascii_lowercase().contains("client_encoding");
    if is_setting || tokens.windows(2).any(sets_names) {
        return Err(Unsplittable::Setting("client_encoding"));
    }
    Ok(())
}

/// The statement that is being read.
#[derive(Default)]
struct OpenStatement<'t> {
    start: Option<usize>,
    end: usize,
    /// The first key words, which tell whether it makes a function.
    head: Vec<&'t str>,
    previous: Option<Token<'t>>,
    parentheses: usize,
    /// The nested `BEGIN ATOMIC … END` and `CASE … END`, in whose bodies semicolons end no statement.
    body_depth: usize,
    copies: bool,
}

impl<'t> OpenStatement<'t> {
    fn push(&mut self, token: Token<'t>) {
        self.start.get_or_insert(token.start);
        self.end = token.end();
        match token.kind {
            TokenKind::Open => self.parentheses += 1,
            TokenKind::Close => self.parentheses = self.parentheses.saturating_sub(1),
            TokenKind::Word => self.push_word(token),
            _ => {}
        }
        self.previous = Some(token);
    }

    fn push_word(&mut self, token: Token<'t>) {
        if self.head.len() < 4 {
            self.head.push(token.text);
        }
        let follows = |word| self.previous.is_some_and(|previous| previous.is(word));
        let to_client =
            (token.is("stdin") && follows("from")) || (token.is("stdout") && follows("to"));
        self.copies |= to_client && self.head[0].eq_ignore_ascii_case("copy");
        if self.parentheses > 0 || !self.makes_function() {
            return;
        }
        let opens = token.is("atomic") && follows("begin");
        if opens || (self.body_depth > 0 && token.is("case")) {
            self.body_depth += 1;
        } else if token.is("end") {
            self.body_depth = self.body_depth.saturating_sub(1);
        }
    }

    fn makes_function(&self) -> bool {
        let head: Vec<_> = self.head.iter().map(|it| it.to_ascii_lowercase()).collect();
        let head: Vec<&str> = head.iter().map(String::as_str).collect();
        matches!(
            head[..],
            ["create", "function" | "procedure", ..]
                | ["create", "or", "replace", "function" | "procedure"]
        )
    }

    fn may_end(&self) -> bool {
        self.parentheses == 0 && self.body_depth == 0
    }

    /// Returns the statement; none if it is empty.
    fn finish(&self, text: &'t str) -> Result<Option<SqlStatement<'t>>, Unsplittable> {
        let Some(start) = self.start else {
            return Ok(None);
        };
        let line = line_at(text, start);
        if self.copies {
            return Err(Unsplittable::Copy { line });
        }
        let text = &text[start..self.end];
        Ok(Some(SqlStatement { text, line }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let statements = split(text, true).unwrap();
        let statements: Vec<&str> = statements.iter().map(|it| it.text).collect();
        assert_eq!(statements, expected, "{text}");
    }

    #[test]
    fn a_semicolon_separates_statements_only_outside_of_quotes_and_comments() {
        check("SELECT 1; SELECT 2", &["SELECT 1", "SELECT 2"]);
        check("SELECT ';'; -- ;\nSELECT 2;", &["SELECT ';'", "SELECT 2"]);
        check("/* ; /* ; */ ; */ SELECT 1;", &["SELECT 1"]);
        check("SELECT \"a;\"\"b;\"; x", &["SELECT \"a;\"\"b;\"", "x"]);
        check("SELECT 'it''s;'; x", &["SELECT 'it''s;'", "x"]);
        check(";; -- nothing\n;", &[]);
    }

    #[test]
    fn a_dollar_quote_ends_with_its_own_tag() {
        check("DO $$ a; $x$ b; $$; x", &["DO $$ a; $x$ b; $$", "x"]);
        check("DO $a$ $$ ; $b$; $a$; x", &["DO $a$ $$ ; $b$; $a$", "x"]);
        check("SELECT a$$; x$$", &["SELECT a$$", "x$$"]);
        check("SELECT $1; SELECT $2", &["SELECT $1", "SELECT $2"]);
        check("SELECT 1e5$$;$$; x", &["SELECT 1e5$$;$$", "x"]);
        check("DO $ä$;$ä$; x", &["DO $ä$;$ä$", "x"]);
    }

    #[test]
    fn a_backslash_escapes_only_where_it_does_on_the_server() {
        check(r"SELECT 'a\'; x", &[r"SELECT 'a\'", "x"]);
        check(r"SELECT E'a\';'; x", &[r"SELECT E'a\';'", "x"]);
        check(r"SELECT U&'\0041\'; x", &[r"SELECT U&'\0041\'", "x"]);
        check(r#"SELECT U&"\;"; x"#, &[r#"SELECT U&"\;""#, "x"]);
        check(
            "SELECT E'a'\n  -- c\n'\\';'; x",
            &["SELECT E'a'\n  -- c\n'\\';'", "x"],
        );
        let statements = split(r"SELECT 'a\';'; x", false).unwrap();
        assert_eq!(statements[0].text, r"SELECT 'a\';'");
    }

    #[test]
    fn a_semicolon_in_parentheses_or_in_the_body_of_a_function_ends_nothing() {
        let rule = "CREATE RULE r AS ON INSERT TO a DO (DELETE FROM b; DELETE FROM c)";
        check(&format!("{rule}; x"), &[rule, "x"]);
        let function = "CREATE OR REPLACE FUNCTION f(case int) RETURNS int BEGIN ATOMIC \
            SELECT CASE WHEN true THEN 1 END; SELECT 2; END";
        check(&format!("{function}; x"), &[function, "x"]);
        check("BEGIN; COMMIT; END", &["BEGIN", "COMMIT", "END"]);
    }

    #[test]
    fn a_statement_knows_its_line() {
        let statements = split("-- one\nSELECT 1;\n\n/* \n */ SELECT 2", true).unwrap();
        let lines: Vec<usize> = statements.iter().map(|it| it.line).collect();
        assert_eq!(lines, [2, 5]);
    }

    #[test]
    fn a_text_that_cannot_be_split_is_refused_with_the_reason() {
        let reason = |text| split(text, true).unwrap_err().to_string();
        assert_eq!(reason("a;\n'b"), "the string in line 2 does not end");
        assert_eq!(reason("$x$ $$"), "the dollar quote in line 1 does not end");
        assert_eq!(reason("/* /* */"), "the comment in line 1 does not end");
        assert_eq!(reason("\"a"), "the quoted name in line 1 does not end");
        assert!(reason("SELECT 1 \\gset").contains("backslash"));
        assert!(reason("COPY t FROM STDIN;\n1\n\\.\n").contains("line 1 needs a client"));
        assert!(reason("COPY (SELECT 1) TO STDOUT").contains("needs a client"));
        let function = "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1;";
        assert!(reason(function).contains("`BEGIN ATOMIC` in line 1 does not end"));
        let strings = "SET standard_conforming_strings = off; SELECT 'a\\';'";
        assert!(reason(strings).contains("`standard_conforming_strings`"));
        assert!(reason("SET NAMES 'LATIN1'; SELECT 'ä'").contains("`client_encoding`"));
        check("SELECT names FROM ä", &["SELECT names FROM ä"]);
    }

    #[test]
    fn no_text_causes_a_panic() {
        let pieces = [
            "--", "/*", "*/", "'", "\"", "$", "$a", "E'", "\\", "ä", "\n", ";", "U&", "1e", "🦀",
        ];
        let count = pieces.len();
        for n in 0..count.pow(4) {
            let text: String = (0..4).map(|i| pieces[n / count.pow(i) % count]).collect();
            for conforming in [true, false] {
                if let Ok(statements) = split(&text, conforming) {
                    assert!(statements.iter().all(|it| !it.text.is_empty()), "{text:?}");
                }
            }
        }
    }
}
