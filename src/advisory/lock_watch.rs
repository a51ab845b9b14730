//! The watch over one held lock: its statements and decisions, written once for threads and
//! futures.

use std::time::{Duration, Instant};

use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{Bool, Integer, Nullable, Oid, Timestamptz};

use super::fencing_token::{FencingToken, TakeFencingToken};
use super::held::{Held, LockState};
use super::hold::{AdvisoryHold, session_changed};
use super::monitor::MonitorSettings;
use super::statement::AdvisoryTarget;
use crate::error::{Error, Result};
use crate::session::Driver;
use crate::session::EndSessionOnDrop;
use crate::session::{IdentityColumns, OWN_IDENTITY, SessionIdentity, query};
use crate::trace;
use crate::views::CURRENT_DATABASE_OID;

/// The session that holds a monitored lock, and its database.
#[derive(Clone, Copy, Debug, diesel::Queryable)]
pub(super) struct Holder {
    pub(super) session: SessionIdentity,
    database: u32,
    in_recovery: bool,
}

impl Holder {
    /// Identifies the session that is about to ask for a monitored lock, and refuses one that
    /// cannot have a fencing token.
    pub(super) async fn identify(driver: &mut impl Driver) -> Result<Self> {
        driver.refuse_transaction()?;
        let holder = driver.ask(IdentifyHolder).await?;
        if holder.in_recovery {
            Err(Error::InRecovery)
        } else {
            Ok(holder)
        }
    }

    /// Checks that a monitor's session reads the locks of the holder's server.
    pub(super) async fn check_monitor(
        self,
        driver: &mut impl Driver,
        target: AdvisoryTarget,
    ) -> Result<()> {
        match read_lock(driver, target, self).await? {
            (true, _) => Ok(()),
            (false, _) => Err(Error::OtherServer(self.session.pid)),
        }
    }
}

/// The watch over a lock for one run.
pub(super) struct LockWatch {
    target: AdvisoryTarget,
    holder: Holder,
    held: Held,
    interval: Duration,
}

impl LockWatch {
    /// Takes the fencing token of a lock that was just acquired; if that fails, releases the lock.
    pub(super) async fn begin(
        driver: &mut impl Driver,
        hold: AdvisoryHold,
        holder: Holder,
        settings: MonitorSettings,
    ) -> Result<Self> {
        let asked = Instant::now();
        match take_token(driver, hold, holder).await {
            Ok(token) => Ok(Self {
                target: hold.target,
                holder,
                held: Held::new(token, asked, settings),
                interval: settings.interval,
            }),
            Err(error) => {
                // A release that fails ends the session; the first error is the cause.
                let _ = hold.leave(driver, false).await;
                Err(error)
            }
        }
    }

    pub(super) fn held(&self) -> &Held {
        &self.held
    }

    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    /// Looks for the lock once.
    pub(super) async fn poll(&self, driver: &mut impl Driver) -> Result<()> {
        let asked = Instant::now();
        let (same_server, is_held) = read_lock(driver, self.target, self.holder).await?;
        self.held.answer(same_server && is_held, asked);
        Ok(())
    }

    /// Returns `true` if no further poll can change the state.
    pub(super) fn is_over(&self) -> bool {
        let state = self.held.state();
        if state == LockState::Lost {
            trace::lost(&self.target);
        }
        state != LockState::Held
    }
}

/// Reads whether this is the holder's server, and whether the holder has the lock there.
///
/// A future that is dropped leaves a reply behind, so the monitor's session then ends.
pub(super) async fn read_lock(
    driver: &mut impl Driver,
    target: AdvisoryTarget,
    holder: Holder,
) -> Result<(bool, bool)> {
    let mut session = EndSessionOnDrop::new(driver);
    let read = session.driver().ask(ReadLock { target, holder }).await;
    session.disarm();
    read
}

async fn take_token(
    driver: &mut impl Driver,
    hold: AdvisoryHold,
    holder: Holder,
) -> Result<FencingToken> {
    let mut session = EndSessionOnDrop::new(driver);
    let taken = session.driver().ask(TakeFencingToken).await;
    session.disarm();
    let (pid, wal_file, xid) = taken?;
    // Behind a pooler each statement may have reached another backend.
    let mut others = [holder.session.pid, pid].into_iter();
    if let Some(other) = others.find(|pid| *pid != hold.backend) {
        return Err(session_changed(hold.target, hold.backend, other));
    }
    let token = FencingToken::decode(&wal_file, &xid);
    Ok(token.map_err(diesel::result::Error::DeserializationError)?)
}

/// Reads the identity of the own session and of its server, and whether it is in recovery.
#[derive(Debug)]
struct IdentifyHolder;

query!(IdentifyHolder => (IdentityColumns, Oid, Bool), Holder);

impl QueryFragment<Pg> for IdentifyHolder {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT ");
        out.push_sql(OWN_IDENTITY);
        out.push_sql(", ");
        out.push_sql(CURRENT_DATABASE_OID);
        out.push_sql(", pg_catalog.pg_is_in_recovery()");
        Ok(())
    }
}

/// Reads whether this is the holder's server, and whether the holder has the lock there.
///
/// It reads no table, so that no lock on a catalog can stop a monitor; hence the function in the
/// place of `pg_stat_activity`.
#[derive(Debug)]
struct ReadLock {
    target: AdvisoryTarget,
    holder: Holder,
}

query!(ReadLock => (Bool, Bool), (bool, bool));

impl QueryFragment<Pg> for ReadLock {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        let Holder {
            session, database, ..
        } = &self.holder;
        out.push_sql("SELECT pg_catalog.pg_postmaster_start_time() OPERATOR(pg_catalog.=) ");
        out.push_bind_param::<Timestamptz, _>(&session.server_start)?;
        out.push_sql(", ");
        // Without the cast, an operator of another user would be a better fit.
        let database = format!("{database}::pg_catalog.oid");
        out.push_sql(&self.target.held_by(&session.pid.to_string(), &database));
        // A role without the privilege reads NULL, and finds no difference.
        out.push_sql(" AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_get_activity(");
        out.push_bind_param::<Integer, _>(&session.pid)?;
        out.push_sql(") AS a WHERE a.backend_start OPERATOR(pg_catalog.<>) ");
        out.push_bind_param::<Nullable<Timestamptz>, _>(&session.backend_start)?;
        out.push_sql(")");
        out.unsafe_to_cache_prepared();
        Ok(())
    }
}
