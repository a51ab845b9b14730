//! The statements that send one signal, and that read the privilege to send it.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{Bool, Integer, Nullable, Timestamptz};

use super::precondition::Precondition;
use super::types::SignalKind;
use crate::session::query;

/// The statement that sends one signal. It returns a row with `true` if it did.
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
}

impl QueryFragment<Pg> for SendSignal {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT ");
        out.push_sql(self.kind.function());
        out.push_sql("(pid) FROM pg_catalog.pg_stat_activity WHERE pid = ");
        out.push_bind_param::<Integer, _>(&self.pid)?;
        out.push_sql(" AND backend_start IS NOT DISTINCT FROM ");
        out.push_bind_param::<Nullable<Timestamptz>, _>(&self.backend_start)?;
        out.push_sql(" AND ");
        self.precondition.walk_ast(out)
    }
}

query!(SendSignal => Bool, bool);

/// Returns whether this role may signal a session; no row if the session has ended.
///
/// Diesel does not show the code of an error, and its text is in the server's language. This
/// statement distinguishes a refusal from a cancelled or timed-out statement.
#[derive(Clone, Debug)]
pub struct CanSignal {
    pub pid: i32,
}

impl QueryFragment<Pg> for CanSignal {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "SELECT me.rolsuper OR (them.rolsuper IS FALSE \
             AND (pg_catalog.pg_has_role(them.oid, 'USAGE') \
             OR pg_catalog.pg_has_role('pg_signal_backend', 'USAGE'))) \
             FROM pg_catalog.pg_stat_activity AS session \
             JOIN pg_catalog.pg_roles AS me ON me.rolname = CURRENT_USER \
             LEFT JOIN pg_catalog.pg_roles AS them ON them.oid = session.usesysid \
             WHERE session.pid = ",
        );
        out.push_bind_param::<Integer, _>(&self.pid)
    }
}

query!(CanSignal => Bool, bool);
