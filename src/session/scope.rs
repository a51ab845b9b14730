//! Closures that leave the connection as it was, also when they panic.

use diesel::Connection;
use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::driver::Driver;
use super::sync_driver::{SyncDriver, run_ready};
use crate::error::{Error, Result};

/// Runs `f`, and hands `state` back; when `f` panics, `undo` gets it.
pub(crate) fn run_or_undo<C, S, R>(
    conn: &mut C,
    state: S,
    f: impl FnOnce(&mut C) -> R,
    undo: impl FnOnce(&mut C, S),
) -> (R, S) {
    let mut scope = Scope {
        conn,
        undo: Some((undo, state)),
    };
    let value = f(scope.conn);
    let (_, state) = scope.undo.take().expect("only dropping takes it before");
    (value, state)
}

struct Scope<'c, C, S, U: FnOnce(&mut C, S)> {
    conn: &'c mut C,
    undo: Option<(U, S)>,
}

impl<C, S, U: FnOnce(&mut C, S)> Drop for Scope<'_, C, S, U> {
    fn drop(&mut self) {
        if let Some((undo, state)) = self.undo.take() {
            undo(self.conn, state);
        }
    }
}

/// Runs `f` in a transaction of its own, to hold a lock in; it must be the outermost, apart
/// from a test transaction.
///
/// Unlike Diesel's own it is rolled back if `f` panics: the locks acquired in it would else be
/// held for as long as the connection lives.
pub(crate) fn in_new_transaction<C, R, E>(
    conn: &mut C,
    f: impl FnOnce(&mut C) -> Result<R, E>,
) -> Result<R, E>
where
    C: Connection<Backend = Pg> + LoadConnection,
    E: From<Error>,
{
    let depth = SyncDriver(conn).depth_of_own_transaction()?;
    run_ready(SyncDriver(conn).begin()).map_err(Error::from)?;
    let (result, depth) = run_or_undo(conn, depth, f, |conn, depth| {
        // A connection that cannot roll back is marked broken by Diesel.
        let _ = run_ready(SyncDriver(conn).unwind(depth));
    });
    let closed = run_ready(SyncDriver(conn).close(depth, result.is_ok()));
    result.and_then(|value| Ok(closed.map(|()| value)?))
}
