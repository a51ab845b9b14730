//! The identity of a session: a pid is used again once its session has ended.

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{Integer, Nullable, Timestamptz};

use super::driver::Driver;
use super::statement::query;
use crate::error::Result;

/// The columns of a [`SessionIdentity`], for the own session.
///
/// The function reads no catalog, whose lock could stop it.
pub(crate) const OWN_IDENTITY: &str = "pg_catalog.pg_backend_pid(), (SELECT a.backend_start \
    FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) AS a), \
    pg_catalog.pg_postmaster_start_time()";

/// The types of the columns of a [`SessionIdentity`].
pub(crate) type IdentityColumns = (Integer, Nullable<Timestamptz>, Timestamptz);

/// Reads the identity of the own session.
#[derive(Debug)]
pub(crate) struct Identify;

query!(Identify => IdentityColumns, SessionIdentity);

impl QueryFragment<Pg> for Identify {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT ");
        out.push_sql(OWN_IDENTITY);
        Ok(())
    }
}

/// A session: the one that `prioritize` works for, or that holds a monitored lock.
#[derive(Clone, Copy, Debug, diesel::Queryable)]
pub(crate) struct SessionIdentity {
    pub(crate) pid: i32,
    /// Distinguishes the session from a later one with its pid; hidden from some roles.
    pub(crate) backend_start: Option<DateTime<Utc>>,
    /// The start of the server. Another server may have a session with the same pid.
    pub(crate) server_start: DateTime<Utc>,
}

impl SessionIdentity {
    pub(crate) async fn identify(driver: &mut impl Driver) -> Result<Self> {
        driver.ask(Identify).await
    }
}

/// Holds if the session exists on this server, as far as this role may see.
impl QueryFragment<Pg> for SessionIdentity {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        // Every role may read the start of the server.
        out.push_sql("(pg_catalog.pg_postmaster_start_time() = ");
        out.push_bind_param::<Timestamptz, _>(&self.server_start)?;
        out.push_sql(" AND EXISTS (SELECT FROM pg_catalog.pg_stat_get_activity(");
        out.push_bind_param::<Integer, _>(&self.pid)?;
        out.push_sql(") AS s WHERE s.pid = ");
        out.push_bind_param::<Integer, _>(&self.pid)?;
        // A role without the privilege sees NULL there.
        out.push_sql(" AND (s.backend_start IS NULL OR s.backend_start = coalesce(");
        out.push_bind_param::<Nullable<Timestamptz>, _>(&self.backend_start)?;
        out.push_sql(", s.backend_start))))");
        Ok(())
    }
}
