//! Sends one signal, and reads its outcome.

use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::sql_types::Bool;

use super::statement::{CanSignal, SendSignal};
use super::types::{Signal, SignalOutcome};
use crate::error::Result;
use crate::session::Driver;

/// Sends one signal.
///
/// A refusal is an error in SQL. In a transaction a savepoint keeps the transaction usable.
pub(crate) async fn send(
    driver: &mut impl Driver,
    signal: SendSignal,
    is_own: bool,
) -> Result<Signal> {
    let (pid, kind) = (signal.pid, signal.kind);
    let outcome = match driver.load_in_savepoint::<_, Bool, bool>(signal).await? {
        Ok(rows) if rows.contains(&true) => SignalOutcome::Sent,
        Ok(_) => SignalOutcome::Gone,
        Err(error) if is_own => return Err(error.into()),
        Err(error) => denied(driver, pid, error).await?,
    };
    Ok(Signal { pid, kind, outcome })
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
