//! The reason why a text is not split.

use std::fmt;

/// The reason why a text cannot be split into its statements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unsplittable {
    /// A comment, a string or the body of a function does not end.
    Unclosed { what: &'static str, line: usize },
    /// A backslash outside of quotes, as in the commands of psql.
    Backslash { line: usize },
    /// `COPY` from or to the client.
    Copy { line: usize },
    /// A setting that changes how the server reads the rest of a text that is sent in parts.
    Setting(&'static str),
}

impl Unsplittable {
    pub(super) fn unclosed(what: &'static str, text: &str, at: usize) -> Self {
        let line = line_at(text, at);
        Self::Unclosed { what, line }
    }

    pub(super) fn backslash(text: &str, at: usize) -> Self {
        let line = line_at(text, at);
        Self::Backslash { line }
    }
}

impl fmt::Display for Unsplittable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unclosed { what, line } => write!(f, "the {what} in line {line} does not end"),
            Self::Backslash { line } => write!(
                f,
                "line {line} has a backslash outside of quotes; commands of psql are not SQL"
            ),
            Self::Copy { line } => write!(
                f,
                "`COPY` in line {line} needs a client that sends or reads its data, such as psql"
            ),
            Self::Setting(name) => write!(f, "it mentions `{name}`, which changes how it is read"),
        }
    }
}

/// Returns the number of the line, from 1.
pub(super) fn line_at(text: &str, at: usize) -> usize {
    1 + text[..at].matches('\n').count()
}
