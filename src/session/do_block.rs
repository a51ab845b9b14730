//! `DO` statements.

/// Wraps a PL/pgSQL body in `DO`, with a quote that the body does not contain.
pub(crate) fn quote(body: &str) -> String {
    let mut quote = String::from("$pglock$");
    while body.contains(quote.as_str()) {
        quote.insert(quote.len() - 1, '_');
    }
    format!("DO {quote}{body}{quote}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_is_found_that_the_body_does_not_contain() {
        assert_eq!(quote("a"), "DO $pglock$a$pglock$");
        assert_eq!(quote("$pglock$"), "DO $pglock_$$pglock$$pglock_$");
    }
}
