//! Errors with all that they came from.

use std::error::Error;

/// The error and what it came from, in one line.
pub(crate) fn with_sources(error: &dyn Error) -> String {
    let sources = std::iter::successors(error.source(), |error| (*error).source());
    sources.fold(error.to_string(), |text, source| {
        format!("{text}: {source}")
    })
}
