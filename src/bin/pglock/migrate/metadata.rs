//! The table `[pglock]` of a `metadata.toml`: exceptions for one migration.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use diesel_migrations::FileBasedMigrations;
use diesel_pglock::MigrationOptions;
use serde::Deserialize;
use toml::Spanned;

use super::first_lock::FirstLock;
use super::priority::Limit;
use crate::connect::error_at;
use crate::failure::Failure;

/// A `metadata.toml`, which may have tables for other programs.
#[derive(Debug, Deserialize)]
struct Metadata {
    run_in_transaction: Option<bool>,
    pglock: Option<Spanned<Exception>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Exception {
    lock_timeout: Option<Spanned<String>>,
    statement_timeout: Option<Spanned<String>>,
    attempts: Option<Spanned<u32>>,
    lock_first: Vec<Spanned<String>>,
}

/// The options of one migration.
#[derive(Debug)]
pub struct MigrationException {
    /// The name of the migration.
    pub name: String,
    lock_timeout: Option<Option<Duration>>,
    statement_timeout: Option<Option<Duration>>,
    attempts: Option<u32>,
    locks_first: Vec<FirstLock>,
}

impl MigrationException {
    pub fn apply(&self, mut options: MigrationOptions) -> MigrationOptions {
        if let Some(timeout) = self.lock_timeout {
            options = options.lock_timeout(timeout);
        }
        if let Some(timeout) = self.statement_timeout {
            options = options.statement_timeout(timeout);
        }
        if let Some(attempts) = self.attempts {
            options = options.attempts(attempts);
        }
        let locks = self.locks_first.iter();
        locks.fold(options, |options, lock| lock.add_to(options))
    }
}

/// Reads the exceptions of all migrations in a directory.
pub fn exceptions(source: &FileBasedMigrations) -> Result<Vec<MigrationException>, Failure> {
    let mut exceptions = Vec::new();
    for folder in fs::read_dir(source.path())? {
        let folder = folder?.path();
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        exceptions.extend(exception(&name, &folder.join("metadata.toml"))?);
    }
    Ok(exceptions)
}

fn exception(name: &str, path: &PathBuf) -> Result<Option<MigrationException>, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => parse(name, path, &text),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(Failure::Usage(format!("`{}`: {error}", path.display()))),
    }
}

/// Returns true if there is no file, or no folder that could have one.
fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}

fn parse(name: &str, path: &Path, text: &str) -> Result<Option<MigrationException>, Failure> {
    let error = |position, error: &str| error_at(path, text, position, error);
    let metadata: Metadata = toml::from_str(text).map_err(|it| {
        let position = it.span().map_or(0, |span| span.start);
        error(position, it.message())
    })?;
    let Some(table) = metadata.pglock else {
        return Ok(None);
    };
    if metadata.run_in_transaction.is_none() {
        let reason = "the file needs `run_in_transaction`; Diesel reads a file without it as false";
        return Err(error(table.span().start, reason));
    }
    let exception = table.into_inner();
    let at = |span: std::ops::Range<usize>, it: String| error(span.start, &it);
    let limit = |it: Option<Spanned<String>>| match it {
        Some(it) => {
            let limit = Limit::parse_timeout(it.get_ref()).map_err(|error| at(it.span(), error))?;
            Ok::<_, Failure>(Some(limit.0))
        }
        None => Ok(None),
    };
    let attempts = exception.attempts.map(|it| match it.get_ref() {
        0 => Err(at(it.span(), "at least 1".to_owned())),
        attempts => Ok(*attempts),
    });
    let locks = exception.lock_first.iter().map(|it| {
        let lock = it.get_ref().parse::<FirstLock>();
        lock.map_err(|error| at(it.span(), error))
    });
    Ok(Some(MigrationException {
        name: name.to_owned(),
        lock_timeout: limit(exception.lock_timeout)?,
        statement_timeout: limit(exception.statement_timeout)?,
        attempts: attempts.transpose()?,
        locks_first: locks.collect::<Result<_, _>>()?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Option<MigrationException>, Failure> {
        parse("2026_step", Path::new("metadata.toml"), text)
    }

    #[test]
    fn all_keys_are_read() {
        let text = "run_in_transaction = true\n[pglock]\nlock_timeout = \"2s\"\n\
            statement_timeout = \"none\"\nattempts = 1\nlock_first = [\"orders\", \"users:share\"]\n";
        let exception = parsed(text).unwrap().unwrap();
        assert_eq!(exception.lock_timeout, Some(Some(Duration::from_secs(2))));
        assert_eq!(exception.statement_timeout, Some(None));
        assert_eq!(exception.attempts, Some(1));
        assert_eq!(exception.locks_first.len(), 2);
        assert!(
            parsed("run_in_transaction = false\n[other]\nx = 1")
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn an_error_names_file_and_line() {
        let error = |text: &str| parsed(text).unwrap_err().to_string();
        let table = "run_in_transaction = true\n[pglock]\n";
        for (key, reason) in [
            ("lock_timeuot = \"2s\"", "unknown field `lock_timeuot`"),
            ("lock_timeout = \"2 moons\"", "is not a duration"),
            ("attempts = 0", "at least 1"),
            ("lock_first = [\"users:strong\"]", "strong"),
        ] {
            let error = error(&format!("{table}{key}"));
            assert!(
                error.starts_with("metadata.toml:3: ") && error.contains(reason),
                "{error}"
            );
        }
        let error = error("[pglock]\nattempts = 1\n");
        assert!(
            error.starts_with("metadata.toml:1: ") && error.contains("run_in_transaction"),
            "{error}"
        );
    }
}
