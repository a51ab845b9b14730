//! Sends one signal, and reads its outcome.

use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::sql_types::{Bool, Nullable};

use super::statement::{CanSignal, SendSignal};
use super::types::{Signal, SignalOutcome};
use crate::error::{Error, Result};
use crate::session::Driver;

/// Sends one signal.
///
/// A refusal is an error in SQL. In a transaction a savepoint keeps the transaction usable.
pub(crate) async fn send(
    driver: &mut impl Driver,
    signal: SendSignal,
    is_own: bool,
) -> Result<Signal> {
    let (pid, kind, is_observed) = (signal.pid, signal.kind, signal.is_observed);
    let sent = driver.load_in_savepoint::<_, Nullable<Bool>, Option<bool>>(signal);
    let outcome = match sent.await? {
        Ok(rows) if is_observed && rows.contains(&Some(true)) => SignalOutcome::Observed,
        Ok(rows) if is_observed && rows.contains(&Some(false)) => {
            SignalOutcome::Denied("this role lacks the privilege to signal the session".to_owned())
        }
        Ok(rows) if rows.contains(&Some(true)) => SignalOutcome::Sent,
        Ok(rows) if rows.contains(&Some(false)) => unsent(driver, pid).await?,
        Ok(rows) if rows.contains(&None) => return Err(expired(pid)),
        Ok(_) => SignalOutcome::Gone,
        Err(error) if is_own => return Err(error.into()),
        Err(error) => denied(driver, pid, error).await?,
    };
    Ok(Signal { pid, kind, outcome })
}

/// Returns the error of a signal that the server executed too late to send it.
fn expired(pid: i32) -> Error {
    Error::Watcher(
        format!("the signal to pid {pid} reached the server too late, and was not sent").into(),
    )
}

/// Distinguishes a session that ended just now from a process that PostgreSQL does not signal.
async fn unsent(driver: &mut impl Driver, pid: i32) -> Result<SignalOutcome> {
    driver.clear_stat_snapshot().await?;
    let rows = driver.load::<_, Bool, bool>(CanSignal { pid }).await?;
    Ok(if rows.is_empty() {
        SignalOutcome::Gone
    } else {
        SignalOutcome::Unsignallable
    })
}

/// Distinguishes a refusal from other errors, which stay errors.
async fn denied(driver: &mut impl Driver, pid: i32, error: DieselError) -> Result<SignalOutcome> {
    let DieselError::DatabaseError(DatabaseErrorKind::Unknown, refusal) = &error else {
        return Err(error.into());
    };
    let allowed = driver.load::<_, Bool, bool>(CanSignal { pid }).await?;
    if allowed.contains(&true) {
        return Err(error.into());
    }
    Ok(SignalOutcome::Denied(refusal.message().to_owned()))
}
