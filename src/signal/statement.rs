//! The statements that send one signal, and that read the privilege to send it.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{Bool, Integer, Nullable, Timestamptz};

use super::precondition::Precondition;
use super::types::SignalKind;
use crate::session::query;

/// The statement that sends one signal. It returns a row with `true` if it did, and one with
/// NULL if it had expired.
///
/// It finds the session and signals it in one statement, so that a later session with the
/// same pid is never signalled. There is one statement per session: a session that this
/// role lacks the privilege to signal would end a longer one.
#[derive(Clone, Debug)]
pub struct SendSignal {
    pub kind: SignalKind,
    pub pid: i32,
    /// The start as `pg_stat_activity` shows it to this role; `None` if it does not.
    pub backend_start: Option<DateTime<Utc>>,
    /// The condition under which the signal is sent.
    pub precondition: Precondition,
    /// The time of the server's clock at which the statement expires.
    ///
    /// A stalled session may execute it long after it was sent, and after its reason.
    pub expiry: Option<DateTime<Utc>>,
    /// Is `true` if the signal is not sent: the result is whether this role may send it.
    pub is_observed: bool,
}

impl QueryFragment<Pg> for SendSignal {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT ");
        self.walk_signal(out.reborrow())?;
        out.push_sql(" FROM pg_catalog.pg_stat_get_activity(");
        out.push_bind_param::<Integer, _>(&self.pid)?;
        out.push_sql(") AS pg_stat_activity WHERE pid = ");
        out.push_bind_param::<Integer, _>(&self.pid)?;
        out.push_sql(" AND backend_start IS NOT DISTINCT FROM ");
        out.push_bind_param::<Nullable<Timestamptz>, _>(&self.backend_start)?;
        out.push_sql(" AND ");
        self.precondition.walk_ast(out)
    }
}

impl SendSignal {
    /// Writes the call that signals the session, the clock read last before it.
    fn walk_signal<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        if let Some(expiry) = &self.expiry {
            out.push_sql("CASE WHEN pg_catalog.clock_timestamp() < ");
            out.push_bind_param::<Timestamptz, _>(expiry)?;
            out.push_sql(" THEN ");
        }
        if self.is_observed {
            self.walk_permission(out.reborrow())?;
        } else {
            out.push_sql(self.kind.function());
            out.push_sql("(pid)");
        }
        if self.expiry.is_some() {
            out.push_sql(" END");
        }
        Ok(())
    }
}

impl SendSignal {
    /// Writes the condition that this role may call the function, and for this session.
    fn walk_permission<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("coalesce((SELECT pg_catalog.bool_or(pg_catalog.has_function_privilege(f.oid, 'EXECUTE')) \
             FROM pg_catalog.pg_proc AS f JOIN pg_catalog.pg_namespace AS n ON n.oid = f.pronamespace \
             WHERE n.nspname = 'pg_catalog' AND f.proname = '");
        out.push_sql(self.kind.name());
        out.push_sql("') AND (");
        walk_can_signal(&self.pid, out.reborrow())?;
        out.push_sql("), false)");
        Ok(())
    }
}

query!(SendSignal => Nullable<Bool>, Option<bool>);

/// Returns whether this role may signal a session; no row if the session has ended.
///
/// Diesel does not show the code of an error, and its text is in the server's language. This
/// statement distinguishes a refusal from a cancelled or timed-out statement.
#[derive(Clone, Debug)]
pub struct CanSignal {
    pub pid: i32,
}

impl QueryFragment<Pg> for CanSignal {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        walk_can_signal(&self.pid, out)
    }
}

/// Selects whether this role may signal the session `pid`.
fn walk_can_signal<'b>(pid: &'b i32, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
    out.push_sql(
        "SELECT me.rolsuper OR (them.rolsuper IS FALSE \
         AND (pg_catalog.pg_has_role(them.oid, 'USAGE') \
         OR pg_catalog.pg_has_role('pg_signal_backend', 'USAGE'))) \
         FROM pg_catalog.pg_stat_activity AS session \
         JOIN pg_catalog.pg_roles AS me ON me.rolname = CURRENT_USER \
         LEFT JOIN pg_catalog.pg_roles AS them ON them.oid = session.usesysid \
         WHERE session.pid = ",
    );
    out.push_bind_param::<Integer, _>(pid)
}

query!(CanSignal => Bool, bool);
