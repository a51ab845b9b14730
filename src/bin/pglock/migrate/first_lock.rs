//! The value of `--lock-first`: a table, and the mode of its lock.

use std::str::FromStr;

use diesel_pglock::{MigrationOptions, TableLockMode};

/// A table to lock first: `TABLE` or `TABLE:MODE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstLock {
    table: String,
    mode: TableLockMode,
}

impl FromStr for FirstLock {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A quoted name may have a colon; a mode has no quotes.
        let (table, mode) = match text.rsplit_once(':') {
            Some((table, mode)) if !mode.contains('"') => (table, Some(mode)),
            _ => (text, None),
        };
        let mode = mode.map(|mode| mode.parse::<TableLockMode>());
        let mode = mode.transpose().map_err(|error| error.to_string())?;
        if table.is_empty() {
            return Err(format!("`{text}` has no table"));
        }
        Ok(Self {
            table: table.to_owned(),
            mode: mode.unwrap_or(TableLockMode::AccessExclusive),
        })
    }
}

impl FirstLock {
    pub fn add_to(&self, options: MigrationOptions) -> MigrationOptions {
        options.lock_first_named([&self.table], self.mode)
    }

    pub fn table(&self) -> &str {
        &self.table
    }

    pub fn mode(&self) -> TableLockMode {
        self.mode
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_follows_a_colon() {
        let parsed = |text: &str| text.parse().map(|it: FirstLock| (it.table, it.mode));
        let exclusive = TableLockMode::AccessExclusive;
        assert_eq!(parsed("users"), Ok(("users".to_owned(), exclusive)));
        assert_eq!(
            parsed("shop.users:SHARE"),
            Ok(("shop.users".to_owned(), TableLockMode::Share))
        );
        assert_eq!(parsed("\"a:b\""), Ok(("\"a:b\"".to_owned(), exclusive)));
        assert!(parsed("users:strong").is_err());
        assert!(parsed(":share").is_err());
    }
}
