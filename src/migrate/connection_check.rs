//! The server's check whether the instance is still connected.
//!
//! Without it, a statement of an instance that was killed waits on, for a lock or for another
//! transaction, and its session keeps the migration lock for as long.

use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::Text;
use diesel::{Connection, QueryResult};

use super::settings::Settings;
use crate::session::{Driver, query, run_ready, uncached};

/// The check in a session that had none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionCheck {
    /// False if the session has an interval of its own, or the server has no such check.
    is_ours: bool,
}

impl ConnectionCheck {
    /// Lets the server check once a second, unless the session has an interval of its own.
    ///
    /// PostgreSQL 13 and some platforms have no such check, and refuse it: that would abort a
    /// transaction of the caller, which is left as it is.
    pub(crate) fn begin<C>(conn: &mut C, settings: &Settings) -> Self
    where
        C: Connection<Backend = Pg> + LoadConnection,
    {
        let is_ours = !settings.within_transaction && swap(conn, "0", "1s");
        Self { is_ours }
    }

    /// Lets the server check again, after migrations that may have reset it.
    pub(crate) fn keep<C>(self, conn: &mut C)
    where
        C: Connection<Backend = Pg> + LoadConnection,
    {
        if self.is_ours {
            swap(conn, "0", "1s");
        }
    }

    /// Restores the session's interval.
    ///
    /// A failure does no harm: then the server goes on checking.
    pub(crate) fn end<C>(self, conn: &mut C)
    where
        C: Connection<Backend = Pg> + LoadConnection,
    {
        if self.is_ours {
            swap(conn, "1s", "0");
        }
    }
}

/// Sets the interval if it has the value `from`; returns true if it had.
fn swap<C>(conn: &mut C, from: &'static str, to: &'static str) -> bool
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    let swap = SwapInterval { from, to };
    let rows = run_ready(uncached(conn).load::<_, Text, String>(swap));
    rows.is_ok_and(|rows| !rows.is_empty())
}

/// Sets the interval if it has the value `from`; then it has a row.
#[derive(Debug)]
struct SwapInterval {
    from: &'static str,
    to: &'static str,
}

query!(SwapInterval => Text, String);

impl QueryFragment<Pg> for SwapInterval {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT pg_catalog.set_config('client_connection_check_interval', ");
        out.push_bind_param::<Text, _>(self.to)?;
        out.push_sql(
            ", false) WHERE pg_catalog.current_setting('client_connection_check_interval', true) \
             OPERATOR(pg_catalog.=) ",
        );
        out.push_bind_param::<Text, _>(self.from)
    }
}
