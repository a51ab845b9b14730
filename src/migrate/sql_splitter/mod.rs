//! Splits SQL into its statements, to run them one by one.

mod lexer;
#[cfg(all(test, feature = "postgres"))]
mod psql_tests;
mod splitter;
mod unsplittable;

#[cfg(all(test, feature = "postgres"))]
use lexer::Lexer;
#[cfg(all(test, feature = "postgres"))]
use splitter::split;
