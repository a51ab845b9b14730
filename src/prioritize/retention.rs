//! The rows of the signal log, and the statement that deletes old ones.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::dsl::{AsSelect, Select};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::Double;

use crate::session::command;
use crate::tables::signal_log;

/// A signal in the table `pglock.signal_log`, which [audited](crate::Prioritizer::audit) runs
/// write, and the command `pglock` for signals by hand.
///
/// The crate's own migrations create the table (`diesel_pglock::MIGRATIONS`, feature
/// `migrations`).
#[derive(Clone, Debug, Default, PartialEq, Queryable, Selectable)]
#[diesel(table_name = signal_log, check_for_backend(Pg))]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SignalLog {
    /// The number of the entry, in the order of writing.
    pub id: i64,
    /// The time at which the entry was written.
    pub sent_at: DateTime<Utc>,
    /// The kind of signal: `cancel` or `terminate`.
    pub kind: String,
    /// The outcome: `sent`, `gone`, or `denied` with the reason.
    pub outcome: String,
    /// The process id of the victim.
    pub pid: i32,
    /// The start of the victim's session. With `pid` it identifies the session.
    pub backend_start: Option<DateTime<Utc>>,
    /// The role of the victim.
    pub username: Option<String>,
    /// The database of the victim.
    pub database: Option<String>,
    /// The name that the victim's client gave itself.
    pub application_name: Option<String>,
    /// The address of the victim's client; `None` on a Unix socket.
    pub client_addr: Option<String>,
    /// The state of the victim.
    pub state: Option<String>,
    /// The query of the victim, without passwords, cut at 1,024 bytes.
    pub query: Option<String>,
    /// The age of the victim's transaction, in seconds.
    pub transaction_seconds: Option<f64>,
    /// The locks of the victim, each as `mode on object`.
    pub held: Vec<String>,
    /// The lock that was awaited, as `mode on object`.
    pub awaited: Option<String>,
    /// The sessions from the prioritized one to the victim; each one blocked the one before it.
    pub wait_path: Option<Vec<i32>>,
    /// The duration of the block, in seconds.
    pub blocked_seconds: f64,
    /// The process id of the prioritized session; for a signal by hand, of the session that it
    /// blocked longest, or 0.
    pub blocked_pid: i32,
    /// The query of the prioritized session, without passwords, cut at 1,024 bytes.
    pub blocked_query: Option<String>,
    /// The migration that was prioritized.
    pub work: Option<String>,
    /// The process id of the watcher, which sent the signal.
    pub sender_pid: i32,
    /// The role of the watcher.
    pub sender_username: String,
    /// The name that the watcher's client gave itself.
    pub sender_application_name: String,
}

/// The query that [`SignalLog::query`] returns.
pub type SignalLogQuery = Select<signal_log::table, AsSelect<SignalLog, Pg>>;

impl SignalLog {
    /// Reads the signal log: one row per signal.
    ///
    /// # Examples
    ///
    /// ```
    /// # include!("../../tests/support/doctest.rs");
    /// use diesel::prelude::*;
    /// use diesel_pglock::SignalLog;
    /// use diesel_pglock::schema::signal_log;
    ///
    /// # fn main() {
    /// # let conn = &mut connection();
    /// let of_the_console = SignalLog::query()
    ///     .filter(signal_log::application_name.eq("console"))
    ///     .order_by(signal_log::sent_at.desc());
    /// # diesel::debug_query::<diesel::pg::Pg, _>(&of_the_console).to_string();
    /// # let _ = conn;
    /// # }
    /// ```
    pub fn query() -> SignalLogQuery {
        signal_log::table.select(Self::as_select())
    }

    /// Deletes the entries that are older than `age`.
    ///
    /// The role needs the privilege `DELETE` on the table, and `SELECT`.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut conn = <diesel::PgConnection as diesel::Connection>::establish("")?;
    /// use std::time::Duration;
    ///
    /// use diesel::prelude::*;
    /// use diesel_pglock::SignalLog;
    ///
    /// let ninety_days = Duration::from_secs(90 * 24 * 3600);
    /// let deleted = SignalLog::retention(ninety_days).execute(&mut conn)?;
    /// # let _ = deleted;
    /// # Ok(())
    /// # }
    /// ```
    pub fn retention(age: Duration) -> DeleteOldSignals {
        DeleteOldSignals {
            seconds: age.as_secs_f64(),
        }
    }
}

/// The statement that [`SignalLog::retention`] returns.
#[derive(Clone, Copy, Debug)]
pub struct DeleteOldSignals {
    seconds: f64,
}

command!(DeleteOldSignals);

impl<C> diesel::RunQueryDsl<C> for DeleteOldSignals {}

impl QueryFragment<Pg> for DeleteOldSignals {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "DELETE FROM pglock.signal_log WHERE sent_at < pg_catalog.clock_timestamp() \
             - pg_catalog.make_interval(secs => ",
        );
        out.push_bind_param::<Double, _>(&self.seconds)?;
        out.push_sql(")");
        Ok(())
    }
}
