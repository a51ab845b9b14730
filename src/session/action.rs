//! Actions: flows as values, and the trait of the connections that run them.

use std::future::Future;

use super::driver::Driver;
use crate::error::Result;

/// A flow as a value: what an action does, whichever connection it is given.
pub trait Action: Send + 'static {
    /// The result of the action.
    type Output: Send + 'static;

    /// Takes the steps.
    fn run(self, driver: &mut impl Driver) -> impl Future<Output = Result<Self::Output>> + Send;
}

/// A connection that actions run on: any sync or async Diesel connection to PostgreSQL.
///
/// On a sync connection an action returns its result, on an async one a future
/// of it. `Mode` is found by inference and never needs to be written.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a Diesel connection to PostgreSQL",
    note = "sync: `diesel::Connection<Backend = diesel::pg::Pg>`; async, with the feature `async`: `diesel_async::AsyncConnection<Backend = diesel::pg::Pg>`"
)]
pub trait Session<Mode> {
    /// `Result<T>`, or a future of it.
    type Output<'c, T: Send + 'static>
    where
        Self: 'c;

    #[doc(hidden)]
    fn run_action<P: Action>(&mut self, plan: P) -> Self::Output<'_, P::Output>;
}
