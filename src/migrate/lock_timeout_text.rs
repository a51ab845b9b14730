//! The server's text for a lock timeout, in the language of a session.

use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::Text;
use diesel::{Connection, QueryResult};

use crate::connection::PgLockConnection;
use crate::error::Result;
use crate::session::{
    BackendPid, Driver, OUTCOME, TakeOutcome, command, query, quote, run_ready, uncached,
};
use crate::source::WatcherSource;
use crate::types::AdvisoryKey;

/// The text of a lock timeout in one language.
#[derive(Debug)]
pub(crate) struct LockTimeoutText {
    language: String,
    text: String,
}

impl LockTimeoutText {
    /// Returns the text in the language of the session: the known one, or else the server's.
    pub(crate) fn of_session<'k, C>(
        known: &'k mut Option<Self>,
        conn: &mut C,
        source: &impl WatcherSource,
    ) -> Result<&'k str>
    where
        C: Connection<Backend = Pg> + LoadConnection,
    {
        let language = run_ready(uncached(conn).ask(Language))?;
        let known = match known.take().filter(|known| known.language == language) {
            Some(text) => known.insert(text),
            None => known.insert(Self {
                text: provoke_lock_timeout(conn, source)?,
                language,
            }),
        };
        Ok(&known.text)
    }
}

/// Waits one millisecond for a lock that another session holds, and returns the error's text.
fn provoke_lock_timeout<C>(conn: &mut C, source: &impl WatcherSource) -> Result<String>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    let mut other = source.connect()?;
    let pid = run_ready(uncached(&mut other).ask(BackendPid))?;
    // No other session asks for this key.
    let key = AdvisoryKey::named(&format!("diesel_pglock::lock timeout::{pid}"));
    let held = other.advisory(key).nowait().acquire()?;
    let text = wait_until_timeout(conn, key);
    held.release()?;
    text
}

/// Waits for the lock; returns the server's text for the timeout, which is empty without one.
fn wait_until_timeout<C>(conn: &mut C, key: AdvisoryKey) -> Result<String>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    let mut driver = uncached(conn);
    run_ready(async {
        driver.execute(WaitUntilTimeout(key)).await?;
        let (text, _) = driver.ask(TakeOutcome { local: false }).await?;
        Ok(text.unwrap_or_default())
    })
}

/// The language of the server's messages to this session.
#[derive(Debug)]
struct Language;

query!(Language => Text, String);

impl QueryFragment<Pg> for Language {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT pg_catalog.current_setting('lc_messages')");
        Ok(())
    }
}

/// Waits one millisecond for an advisory lock, and leaves the server's text for the timeout.
#[derive(Debug)]
struct WaitUntilTimeout(AdvisoryKey);

command!(WaitUntilTimeout);

impl QueryFragment<Pg> for WaitUntilTimeout {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        let key = self.0.arguments();
        let body = format!(
            "BEGIN PERFORM pg_catalog.set_config('{OUTCOME}', '', false); \
             BEGIN PERFORM pg_catalog.set_config('lock_timeout', '1', true); \
             PERFORM pg_catalog.pg_advisory_xact_lock({key}); \
             EXCEPTION WHEN lock_not_available THEN \
             PERFORM pg_catalog.set_config('{OUTCOME}', SQLERRM, false); \
             END; END"
        );
        out.push_sql(&quote(&body));
        out.unsafe_to_cache_prepared();
        Ok(())
    }
}
