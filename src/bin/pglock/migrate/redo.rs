//! `pglock migrate revert` and `redo`: several migrations, and the same again.

use diesel::migration::{Migration, MigrationSource, MigrationVersion, Result};
use diesel::pg::Pg;
use diesel_migrations::{FileBasedMigrations, MigrationError, MigrationHarness};

use super::command::{BoxedError, Harness};

/// The migrations to revert, from the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    All,
    Last(u32),
}

type Versions = Vec<MigrationVersion<'static>>;

/// Reverts migrations; fewer, if fewer are applied.
///
/// # Errors
///
/// [`MigrationError::NoMigrationRun`] if none is applied.
pub fn revert(
    harness: &mut Harness<'_>,
    source: &FileBasedMigrations,
    number: Number,
) -> Result<Versions> {
    let Number::Last(number) = number else {
        let reverted = harness.revert_all_migrations(source.clone())?;
        return Ok(reverted.iter().map(MigrationVersion::as_owned).collect());
    };
    let mut reverted = Versions::new();
    for _ in 0..number {
        match harness.revert_last_migration(source.clone()) {
            Ok(version) => reverted.push(version),
            Err(error) if is_nothing_to_revert(&error) && !reverted.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(reverted)
}

/// Reverts migrations, and runs the same ones again.
pub fn redo(harness: &mut Harness<'_>, source: &FileBasedMigrations, number: Number) -> Result<()> {
    let reverted = revert(harness, source, number)?;
    let mut migrations: Vec<Box<dyn Migration<Pg>>> = source.migrations()?;
    migrations.retain(|it| reverted.contains(&it.name().version()));
    // Of those with one version the last by name comes first, and the others are then done.
    migrations.sort_by_cached_key(|it| std::cmp::Reverse(it.name().to_string()));
    migrations.sort_by(|a, b| a.name().version().cmp(&b.name().version()));
    harness.run_migrations(&migrations).map(drop)
}

/// Returns true if no migration is applied.
pub fn is_nothing_to_revert(error: &BoxedError) -> bool {
    matches!(error.downcast_ref(), Some(MigrationError::NoMigrationRun))
}
