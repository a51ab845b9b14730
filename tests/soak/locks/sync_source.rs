//! The sources of sync connections: connections of one's own, and an r2d2 pool.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;

use diesel::connection::{AnsiTransactionManager, SimpleConnection, TransactionManager};
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, Pool, PooledConnection};
use diesel_pglock::prelude::*;
use diesel_pglock::{Error, FencingToken, Held, TableLockMode::*};

use super::calls::{acquire, calls, run, under_lock, with_options};
use super::step::{Around, Kind, Lock, Step, Wait, Work};
use super::world::{Settings, World, ledger};

/// A source of sync connections, of which a worker uses one at a time.
pub trait Source: Send + Sync + 'static {
    const NAME: &'static str;
    type Conn;

    fn open(url: &str) -> Self;
    /// Returns a connection; `None` if the disturbances keep one from being opened.
    fn take(&self) -> Option<Self::Conn>;
    fn put_back(&self, conn: Self::Conn, step: Step);
    fn take_step(conn: &mut Self::Conn, step: Step, world: &World) -> Result<bool, Error>;
    fn settings(conn: &mut Self::Conn) -> QueryResult<Settings>;
    /// Closes connections that are broken, and were kept.
    fn close_broken(&self) {}
}

/// One connection of one's own at a time.
///
/// A broken one stays open, until it was checked that its session holds no lock.
pub struct Plain {
    url: String,
    conn: Mutex<Option<PgConnection>>,
    broken: Mutex<Vec<PgConnection>>,
}

impl Source for Plain {
    const NAME: &'static str = "plain";
    type Conn = PgConnection;

    fn open(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            conn: Mutex::default(),
            broken: Mutex::default(),
        }
    }

    fn take(&self) -> Option<PgConnection> {
        let kept = self.conn.lock().unwrap().take();
        kept.or_else(|| PgConnection::establish(&self.url).ok())
    }

    fn put_back(&self, mut conn: PgConnection, step: Step) {
        let is_broken = AnsiTransactionManager::is_broken_transaction_manager(&mut conn);
        if !is_broken && conn.batch_execute("SELECT 1").is_ok() {
            *self.conn.lock().unwrap() = Some(conn);
        } else if !step.is_in_transaction() {
            // A panic leaves Diesel's own transactions open: their connections are closed at once.
            self.broken.lock().unwrap().push(conn);
        }
    }

    fn take_step(conn: &mut PgConnection, step: Step, world: &World) -> Result<bool, Error> {
        plain::take_step(conn, step, world)
    }

    fn settings(conn: &mut PgConnection) -> QueryResult<Settings> {
        Settings::query().get_result(conn)
    }

    fn close_broken(&self) {
        self.broken.lock().unwrap().clear();
    }
}

/// A pool of one connection, so that each step finds what the last one left behind.
pub struct R2d2(Pool<ConnectionManager<PgConnection>>);

type R2d2Conn = PooledConnection<ConnectionManager<PgConnection>>;

impl Source for R2d2 {
    const NAME: &'static str = "r2d2";
    type Conn = R2d2Conn;

    fn open(url: &str) -> Self {
        let pool = Pool::builder()
            .max_size(1)
            .error_handler(Box::new(diesel::r2d2::NopErrorHandler));
        Self(pool.build_unchecked(ConnectionManager::new(url)))
    }

    fn take(&self) -> Option<R2d2Conn> {
        self.0.get().ok()
    }

    fn put_back(&self, conn: R2d2Conn, _: Step) {
        drop(conn);
    }

    fn take_step(conn: &mut R2d2Conn, step: Step, world: &World) -> Result<bool, Error> {
        r2d2::take_step(conn, step, world)
    }

    fn settings(conn: &mut R2d2Conn) -> QueryResult<Settings> {
        Settings::query().get_result(conn)
    }
}

/// Runs `$under` under a guard.
macro_rules! under_guard {
    ([] $conn:ident, $lock:ident, $under:ident) => {{
        let lock = with_options!($conn.advisory($lock.key()), $lock);
        if $lock.wait.is_try() {
            match lock.try_acquire()? {
                Some(mut guard) => $under(&mut *guard),
                None => Ok(false),
            }
        } else {
            $under(&mut *lock.acquire()?)
        }
    }};
}

/// Abandons a transaction by a panic that is caught.
macro_rules! abandon {
    ($Conn:ty) => {
        fn abandon(conn: &mut $Conn, step: Step) -> Result<(), Error> {
            let transfer = |conn: &mut $Conn| {
                withdraw(conn, step)?;
                resume_unwind(Box::new("on purpose")) // without a message
            };
            let caught = AssertUnwindSafe(|| conn.transaction::<(), Error, _>(transfer));
            let _ = catch_unwind(caught);
            Ok(())
        }
    };
}

mod plain {
    use super::*;
    calls!([] [] PgConnection);
    abandon!(PgConnection);
}

mod r2d2 {
    use super::*;
    calls!([] [] R2d2Conn);
    abandon!(R2d2Conn);
}
