//! The crate's own migrations.

/// The crate's own migrations: the table `pglock.signal_log`, for
/// [`Prioritizer::audit`](crate::Prioritizer::audit).
///
/// A database has one log, however many schemas have a history of migrations. The log is
/// dropped when the last of them reverts the migration.
///
/// Run them beside your own, with any harness. Their version is a low one, so that
/// `revert_last_migration` of your own source does not reach it. `revert_all_migrations`
/// does: Diesel's own harness then fails, after it has reverted all others.
/// [`PrioritizedHarness`](crate::PrioritizedHarness) leaves them in place.
pub const MIGRATIONS: diesel_migrations::EmbeddedMigrations =
    diesel_migrations::embed_migrations!();
