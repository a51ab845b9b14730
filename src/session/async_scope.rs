//! Async closures that leave the connection as it was, or end the session.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};

use diesel::pg::Pg;
use diesel_async::AsyncConnection;
use futures_util::FutureExt;

use super::async_driver::AsyncDriver;
use super::driver::Driver;
use super::end_on_drop::EndSessionOnDrop;
use crate::error::{Error, Result};

/// An async closure whose future has a name, so that it can be asked to be `Send`.
///
/// `AsyncFnOnce` alone cannot say that yet. Every `async |conn| …` whose future
/// is `Send` implements it; there is nothing to write.
pub trait AsyncFunc<T, R>:
    AsyncFnOnce(T) -> R + FnOnce(T) -> <Self as AsyncFunc<T, R>>::Fut
{
    /// The future of the closure.
    type Fut: Future<Output = R>;
}

impl<F, T, Fut, R> AsyncFunc<T, R> for F
where
    F: AsyncFnOnce(T) -> R + FnOnce(T) -> Fut,
    Fut: Future<Output = R>,
{
    type Fut = Fut;
}

/// An async closure over a connection: `async |conn| …`, with a future that is `Send`.
///
/// Every such closure implements it. Code that passes closures on can name the trait as
/// their bound.
///
/// # Examples
///
/// ```
/// # include!("../../tests/support/doctest.rs");
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use diesel_async::{AsyncConnection, AsyncPgConnection};
/// # let mut conn = AsyncPgConnection::establish(database_url()).await?;
/// use diesel_pglock::{AsyncClosure, Error, prelude::*};
///
/// async fn nightly<C, R, E>(conn: &mut C, job: impl AsyncClosure<C, R, E>) -> Result<Option<R>, E>
/// where
///     C: AsyncPgLockConnection,
///     E: From<Error> + Send,
///     R: Send,
/// {
///     conn.advisory("nightly").try_run(job).await
/// }
///
/// let ran = nightly(&mut conn, async |_conn| diesel::QueryResult::Ok("done")).await?;
/// assert_eq!(ran, Some("done"));
/// # Ok(())
/// # }
/// ```
pub trait AsyncClosure<C, R, E>:
    Send
    + for<'r> AsyncFnOnce(&'r mut C) -> Result<R, E>
    + for<'r> AsyncFunc<&'r mut C, Result<R, E>, Fut: Send>
{
}

impl<F, C, R, E> AsyncClosure<C, R, E> for F where
    F: Send
        + for<'r> AsyncFnOnce(&'r mut C) -> Result<R, E>
        + for<'r> AsyncFunc<&'r mut C, Result<R, E>, Fut: Send>
{
}

/// The end of a closure: its result, or a panic that continues once the connection is in
/// order.
pub(crate) struct Ended<T>(Result<T, Box<dyn Any + Send>>);

/// Runs the closure's future, and keeps a panic.
pub(crate) async fn end<T>(future: impl Future<Output = T>) -> Ended<T> {
    Ended(AssertUnwindSafe(future).catch_unwind().await)
}

impl<R, E: From<Error>> Ended<Result<R, E>> {
    pub(crate) fn succeeded(&self) -> bool {
        matches!(self.0, Ok(Ok(_)))
    }

    /// Returns whether the closure succeeded; `None` if it panicked.
    pub(crate) fn is_ok(&self) -> Option<bool> {
        self.0.as_ref().ok().map(Result::is_ok)
    }

    /// The closure's own error comes first, then that of putting things in order.
    pub(crate) fn and(self, cleaned_up: Result<()>) -> Result<R, E> {
        let result = self.0.unwrap_or_else(|panic| resume_unwind(panic));
        result.and_then(|value| Ok(cleaned_up.map(|()| value)?))
    }
}

/// Runs `f` in a transaction that must be the outermost, to hold a lock in.
///
/// Rolled back when `f` panics. When the future is dropped the transaction cannot
/// be closed any more, and the session ends.
pub(crate) async fn in_new_transaction<C, R, E, F>(conn: &mut C, f: F) -> Result<R, E>
where
    C: AsyncConnection<Backend = Pg>,
    F: AsyncClosure<C, R, E>,
    E: From<Error> + Send,
    R: Send,
{
    let mut driver = AsyncDriver(conn);
    let depth = driver.depth_of_own_transaction()?;
    let mut session = EndSessionOnDrop::new(&mut driver);
    if let Err(error) = session.driver().begin().await {
        session.disarm();
        return Err(Error::from(error).into());
    }
    let ended = end(f(&mut *session.driver().0)).await;
    let closed = session.driver().close(depth, ended.succeeded()).await;
    session.disarm();
    ended.and(closed)
}
