//! The names of the advisory keys that this process made from names.

use std::collections::HashMap;
use std::sync::{LazyLock, PoisonError, RwLock};

use crate::fmt::single_line;

/// The number of names that are kept; a name that no longer fits is shown as its number.
const MAX_NAMES: usize = 1024;

/// The longest name that is shown in full, in characters.
const MAX_LENGTH: usize = 80;

static NAMES: LazyLock<RwLock<HashMap<i64, String>>> = LazyLock::new(RwLock::default);

/// Keeps the name of a key, fit for a message.
pub(super) fn remember(key: i64, name: &str) {
    let is_known =
        |names: &HashMap<i64, String>| names.len() >= MAX_NAMES || names.contains_key(&key);
    if is_known(&NAMES.read().unwrap_or_else(PoisonError::into_inner)) {
        return;
    }
    let mut names = NAMES.write().unwrap_or_else(PoisonError::into_inner);
    if !is_known(&names) {
        names.insert(key, single_line(name, MAX_LENGTH).replace('`', "'"));
    }
}

/// Returns the name of a key, if this process made the key from a name.
pub(super) fn name_of(key: i64) -> Option<String> {
    let names = NAMES.read().unwrap_or_else(PoisonError::into_inner);
    names.get(&key).filter(|name| !name.is_empty()).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_on_one_line() {
        remember(i64::MIN + 1, "a\u{1b}[31m\n`b`");
        assert_eq!(name_of(i64::MIN + 1).unwrap(), "a [31m 'b'");
        assert_eq!(name_of(i64::MIN + 2), None);
    }
}
