//! The async closure that runs under a monitored lock.

use std::future::Future;

use super::held::Held;

/// An async closure of two arguments whose future has a name, so that it can be asked to be
/// `Send`; see [`AsyncFunc`](crate::AsyncFunc).
pub trait AsyncFunc2<T, U, R>:
    AsyncFnOnce(T, U) -> R + FnOnce(T, U) -> <Self as AsyncFunc2<T, U, R>>::Fut
{
    /// The future of the closure.
    type Fut: Future<Output = R>;
}

impl<F, T, U, Fut, R> AsyncFunc2<T, U, R> for F
where
    F: AsyncFnOnce(T, U) -> R + FnOnce(T, U) -> Fut,
    Fut: Future<Output = R>,
{
    type Fut = Fut;
}

/// An async closure over a connection and a held lock: `async |conn, held| …`, with a future
/// that is `Send`.
///
/// Every such closure implements it. Code that passes closures on can name the trait as
/// their bound.
pub trait AsyncMonitoredClosure<C, R, E>:
    Send
    + for<'r, 'h> AsyncFnOnce(&'r mut C, &'h Held) -> Result<R, E>
    + for<'r, 'h> AsyncFunc2<&'r mut C, &'h Held, Result<R, E>, Fut: Send>
{
}

impl<F, C, R, E> AsyncMonitoredClosure<C, R, E> for F where
    F: Send
        + for<'r, 'h> AsyncFnOnce(&'r mut C, &'h Held) -> Result<R, E>
        + for<'r, 'h> AsyncFunc2<&'r mut C, &'h Held, Result<R, E>, Fut: Send>
{
}
