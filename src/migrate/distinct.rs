//! Migrations that share a version: the history can record only one of them, so one is run.
//!
//! Diesel's own harness runs one of them too, without a word. With embedded migrations it is the
//! last by name; in a directory it depends on the file system.

use std::cell::RefCell;
use std::collections::HashMap;

use diesel::migration::{Migration, MigrationSource, MigrationVersion, Result};
use diesel::pg::Pg;

type Version = MigrationVersion<'static>;

/// The migrations of a source, at most one with each version: the last by name.
pub(crate) struct DistinctMigrations {
    /// Taken by the first call that reads them.
    migrations: RefCell<Vec<Box<dyn Migration<Pg>>>>,
    /// The names of the others.
    pub(crate) skipped: SkippedMigrations,
}

/// The version and the name of a migration.
pub(crate) struct NamedVersion {
    pub(crate) version: Version,
    pub(crate) name: String,
}

impl NamedVersion {
    pub(crate) fn new(migration: &dyn Migration<Pg>) -> Self {
        Self {
            version: version(migration),
            name: migration.name().to_string(),
        }
    }

    /// Returns the names of these migrations, in the order of their versions.
    pub(crate) fn of(migrations: &[Box<dyn Migration<Pg>>]) -> Vec<Self> {
        let migrations = migrations.iter();
        let mut names: Vec<_> = migrations.map(|it| Self::new(it.as_ref())).collect();
        names.sort_by(|a, b| a.version.cmp(&b.version));
        names
    }
}

/// The names of the migrations that are never run, by version.
pub(crate) type SkippedMigrations = HashMap<Version, Vec<String>>;

impl DistinctMigrations {
    pub(crate) fn of(source: &impl MigrationSource<Pg>) -> Result<Self> {
        let mut migrations = source.migrations()?;
        migrations.sort_by_cached_key(|migration| migration.name().to_string());
        let mut distinct = HashMap::new();
        let mut skipped = SkippedMigrations::new();
        for migration in migrations {
            let version = version(migration.as_ref());
            if let Some(earlier) = distinct.insert(version.as_owned(), migration) {
                let names = skipped.entry(version).or_default();
                names.push(earlier.name().to_string());
            }
        }
        Ok(Self {
            migrations: RefCell::new(distinct.into_values().collect()),
            skipped,
        })
    }

    pub(crate) fn versions(&self) -> Vec<Version> {
        let migrations = self.migrations.borrow();
        migrations.iter().map(|it| version(it.as_ref())).collect()
    }

    /// Returns the migrations in the order in which they are run.
    pub(crate) fn names(&self) -> Vec<NamedVersion> {
        NamedVersion::of(&self.migrations.borrow())
    }
}

impl MigrationSource<Pg> for DistinctMigrations {
    fn migrations(&self) -> Result<Vec<Box<dyn Migration<Pg>>>> {
        Ok(self.migrations.take())
    }
}

fn version(migration: &dyn Migration<Pg>) -> Version {
    migration.name().version().as_owned()
}

/// Returns the warning about migrations that are never run, beside one with their version.
pub(crate) fn warning(name: &str, skipped: &[String]) -> String {
    let skipped = skipped.join("`, `");
    format!("`{name}` has the version of `{skipped}`: the history can record only one of them")
}
