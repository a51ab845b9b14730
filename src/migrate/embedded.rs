/// The crate's own migrations: the table `pglock.signal_log`, for
/// [`Prioritizer::audit`](crate::Prioritizer::audit).
///
/// The log is one per database, however many schemas have a history of migrations; to
/// revert the migration in one of them drops it for all.
///
/// Run them beside your own, with any harness. Their version is a low one, so that
/// `revert_last_migration` of your own source does not meet it. `revert_all_migrations`
/// does, of which Diesel's own harness makes an error once all else is reverted;
/// [`PrioritizedHarness`](crate::PrioritizedHarness) leaves them in place.
pub const MIGRATIONS: diesel_migrations::EmbeddedMigrations =
    diesel_migrations::embed_migrations!();
