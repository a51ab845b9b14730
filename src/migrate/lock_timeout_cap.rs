//! Keeps the lock timeout below the session's statement timeout.
//!
//! A wait that the statement timeout ends fails like any statement that takes too long: the
//! server's text does not tell that it waited for a lock, so it is not tried again.

use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::Bool;
use diesel::{Connection, QueryResult};

use crate::session::{Driver, command, run_ready, uncached};

/// Shortens the lock timeout to nine tenths of the statement timeout, if that is shorter.
///
/// The statement timeout may be the role's or the database's, or one that a migration set. A
/// failure to read it decides nothing.
pub(crate) fn cap_lock_timeout<C>(conn: &mut C)
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    let mut driver = uncached(conn);
    let Ok(depth) = driver.depth() else { return };
    let local = depth > 0;
    let _ = run_ready(driver.execute(CapLockTimeout { local }));
}

/// Shortens the lock timeout.
#[derive(Debug)]
struct CapLockTimeout {
    /// Until the transaction ends, rather than the session.
    local: bool,
}

command!(CapLockTimeout);

impl QueryFragment<Pg> for CapLockTimeout {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "SELECT pg_catalog.set_config('lock_timeout', \
               greatest(t.statement OPERATOR(pg_catalog.*) 9 OPERATOR(pg_catalog./) 10, 1)::pg_catalog.text, ",
        );
        out.push_bind_param::<Bool, _>(&self.local)?;
        out.push_sql(
            ") FROM (SELECT s.millis AS statement, l.millis AS lock FROM \
               (SELECT (extract(epoch FROM pg_catalog.current_setting('statement_timeout')\
                 ::pg_catalog.interval) OPERATOR(pg_catalog.*) 1000)::pg_catalog.int8 AS millis) AS s, \
               (SELECT (extract(epoch FROM pg_catalog.current_setting('lock_timeout')\
                 ::pg_catalog.interval) OPERATOR(pg_catalog.*) 1000)::pg_catalog.int8 AS millis) AS l) AS t \
             WHERE t.statement OPERATOR(pg_catalog.>) 0 AND t.lock OPERATOR(pg_catalog.>) 0 \
             AND t.statement OPERATOR(pg_catalog.<=) t.lock",
        );
        Ok(())
    }
}
