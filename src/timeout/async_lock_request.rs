//! The transactions that async lock kinds open.

use diesel::pg::Pg;
use diesel_async::AsyncConnection;

use super::lock_request::{LockRequest, Place, acquire_at, take};
use super::wait::WaitOption;
use crate::error::{Error, Result};
use crate::session::AsyncDriver;
use crate::session::async_scope::{AsyncClosure, in_new_transaction};

/// Opens a transaction, acquires the lock, and runs `f`.
pub(crate) async fn run_in_transaction<C, L, R, E, F>(
    conn: &mut C,
    lock: L,
    wait: WaitOption,
    f: F,
) -> Result<R, E>
where
    C: AsyncConnection<Backend = Pg>,
    L: LockRequest,
    F: AsyncClosure<C, R, E>,
    E: From<Error> + Send,
    R: Send,
{
    let locked = async move |conn: &mut C| {
        Box::pin(acquire_at(
            Place::First,
            &mut AsyncDriver(conn),
            &lock,
            wait,
        ))
        .await?;
        f(conn).await
    };
    in_new_transaction(conn, locked).await
}

/// Opens a transaction, and runs `f` in it if the lock is acquired; `None` if it is busy.
pub(crate) async fn try_run_in_transaction<C, L, R, E, F>(
    conn: &mut C,
    lock: L,
    wait: WaitOption,
    f: F,
) -> Result<Option<R>, E>
where
    C: AsyncConnection<Backend = Pg>,
    L: LockRequest,
    F: AsyncClosure<C, R, E>,
    E: From<Error> + Send,
    R: Send,
{
    let locked = async move |conn: &mut C| {
        let limit = wait.for_try()?;
        let held = Box::pin(take(Place::First, &mut AsyncDriver(conn), &lock, limit)).await?;
        match held {
            Some(_) => f(conn).await.map(Some),
            None => Ok(None),
        }
    };
    in_new_transaction(conn, locked).await
}
