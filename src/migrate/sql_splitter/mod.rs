//! Splits SQL into its statements, to run them one by one.

mod lexer;
#[cfg(all(test, feature = "postgres"))]
mod psql_tests;
mod splitter;
mod unsplittable;
mod words;

#[cfg(any(feature = "cli", all(test, feature = "postgres")))]
pub(crate) use lexer::Lexer;
#[cfg(feature = "cli")]
pub(crate) use lexer::TokenKind;
pub(crate) use splitter::{SqlStatement, split};
pub(crate) use unsplittable::Unsplittable;
#[cfg(feature = "cli")]
pub(crate) use words::Words;
pub(crate) use words::first_word;
