//! Tells a migration that failed by a lock timeout from one that failed for another reason.
//!
//! Diesel shows no SQLSTATE, a migration's error is a text, and that is in the
//! server's language. So the server is asked for its own words for a lock timeout:
//! the session that migrates holds the runners' lock, and another session waits a
//! millisecond for it.

use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};

use crate::driver::{Driver, SyncDriver, ready};
use crate::error::with_sources;
use crate::statement::{OUTCOME, TakeOutcome, command, push_do};
use crate::{AdvisoryKey, Result, WatcherSource};

/// Whether the error says what the server says of a lock timeout.
pub(crate) fn is_lock_timeout(
    error: &(dyn std::error::Error + 'static),
    runners_lock: AdvisoryKey,
    source: &impl WatcherSource,
) -> bool {
    let says = |text: String| !text.is_empty() && with_sources(error).contains(&text);
    lock_timeout_text(runners_lock, source).is_ok_and(says)
}

fn lock_timeout_text(key: AdvisoryKey, source: &impl WatcherSource) -> Result<String> {
    let mut session = source.connect()?;
    let mut driver = SyncDriver(&mut session);
    ready(async {
        driver.execute(ProvokeLockTimeout(key)).await?;
        let (text, _) = driver.ask(TakeOutcome { local: false }).await?;
        Ok(text.unwrap_or_default())
    })
}

/// Waits in vain for an advisory lock, and leaves the server's words for that.
#[derive(Debug)]
struct ProvokeLockTimeout(AdvisoryKey);

command!(ProvokeLockTimeout);

impl QueryFragment<Pg> for ProvokeLockTimeout {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        let body = format!(
            "BEGIN PERFORM set_config('{OUTCOME}', '', false); \
             BEGIN PERFORM set_config('lock_timeout', '1', true); \
             PERFORM pg_catalog.pg_advisory_xact_lock({}); \
             EXCEPTION WHEN lock_not_available THEN \
             PERFORM set_config('{OUTCOME}', SQLERRM, false); \
             END; END",
            self.0
        );
        push_do(&mut out, &body);
        Ok(())
    }
}
