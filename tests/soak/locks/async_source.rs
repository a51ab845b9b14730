//! The sources of async connections: connections of one's own, and pools.

use std::future::Future;
use std::panic::resume_unwind;
use std::sync::Mutex;
use std::time::Duration;

use diesel::QueryResult;
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, bb8, deadpool, mobc};
use diesel_async::{
    AnsiTransactionManager, AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection,
    TransactionManager,
};
use diesel_pglock::prelude::*;
use diesel_pglock::{Error, FencingToken, Held, TableLockMode::*};
use tokio::time::{sleep, timeout};

use super::calls::{acquire, calls, run, under_lock, with_options};
use super::step::{Around, Kind, Lock, Step, Wait, Work};
use super::world::{Settings, World, ledger};

/// A source of async connections, of which a worker uses one at a time.
pub trait AsyncSource: Send + Sync + Sized + 'static {
    const NAME: &'static str;
    type Conn: Send;

    fn open(url: &str) -> impl Future<Output = Self> + Send;
    /// Returns a connection; `None` if the disturbances keep one from being opened.
    fn take(&self) -> impl Future<Output = Option<Self::Conn>> + Send;
    fn put_back(&self, conn: Self::Conn, step: Step) -> impl Future<Output = ()> + Send;
    fn take_step(
        conn: &mut Self::Conn,
        step: Step,
        world: &World,
    ) -> impl Future<Output = Result<bool, Error>> + Send;
    fn settings(conn: &mut Self::Conn) -> impl Future<Output = QueryResult<Settings>> + Send;
    /// Closes connections that are broken, and were kept.
    fn close_broken(&self) {}
}

/// One connection of one's own at a time.
///
/// A broken one stays open, until it was checked that its session holds no lock.
pub struct Plain {
    url: String,
    conn: Mutex<Option<AsyncPgConnection>>,
    broken: Mutex<Vec<AsyncPgConnection>>,
}

impl AsyncSource for Plain {
    const NAME: &'static str = "plain async";
    type Conn = AsyncPgConnection;

    async fn open(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            conn: Mutex::default(),
            broken: Mutex::default(),
        }
    }

    async fn take(&self) -> Option<AsyncPgConnection> {
        let kept = self.conn.lock().unwrap().take();
        match kept {
            Some(conn) => Some(conn),
            None => AsyncPgConnection::establish(&self.url).await.ok(),
        }
    }

    async fn put_back(&self, mut conn: AsyncPgConnection, step: Step) {
        let is_broken = AnsiTransactionManager::is_broken_transaction_manager(&mut conn);
        if !is_broken && conn.batch_execute("SELECT 1").await.is_ok() {
            *self.conn.lock().unwrap() = Some(conn);
        } else if !step.is_in_transaction() {
            // A dropped future leaves diesel-async's own transactions open.
            self.broken.lock().unwrap().push(conn);
        }
    }

    async fn take_step(
        conn: &mut AsyncPgConnection,
        step: Step,
        world: &World,
    ) -> Result<bool, Error> {
        plain::take_step(conn, step, world).await
    }

    async fn settings(conn: &mut AsyncPgConnection) -> QueryResult<Settings> {
        Settings::query().get_result(conn).await
    }

    fn close_broken(&self) {
        self.broken.lock().unwrap().clear();
    }
}

/// Defines a source over a pool of one connection.
///
/// A panic or a dropped future leaves diesel-async's own transactions open. deadpool keeps such a
/// connection until it is asked for, and mobc, as diesel-async 0.9 uses it, hands it out again: they
/// do not get it back.
macro_rules! pool {
    ($Source:ident, $module:ident, $name:literal, $Pool:ty, $Conn:ty, |$manager:ident| $open:expr, |$pool:ident| $take:expr, $put_back:expr) => {
        pub struct $Source($Pool);

        impl AsyncSource for $Source {
            const NAME: &'static str = $name;
            type Conn = $Conn;

            async fn open(url: &str) -> Self {
                let $manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(url);
                Self($open)
            }

            async fn take(&self) -> Option<$Conn> {
                let $pool = &self.0;
                $take.await.ok()
            }

            async fn put_back(&self, conn: $Conn, step: Step) {
                $put_back(conn, step);
            }

            async fn take_step(
                conn: &mut $Conn,
                step: Step,
                world: &World,
            ) -> Result<bool, Error> {
                $module::take_step(conn, step, world).await
            }

            async fn settings(conn: &mut $Conn) -> QueryResult<Settings> {
                Settings::query().get_result(conn).await
            }
        }

        mod $module {
            use super::*;
            calls!([async] [.await] $Conn);
            abandon!($Conn);
        }
    };
}

/// Runs `$under` under a lock; async connections have no guard that borrows them.
macro_rules! under_guard {
    ([.await] $conn:ident, $lock:ident, $under:ident) => {{
        let lock = with_options!($conn.advisory($lock.key()), $lock);
        run!([.await] lock, $lock, $under)
    }};
}

/// Abandons a transaction by a future that is dropped.
macro_rules! abandon {
    ($Conn:ty) => {
        async fn abandon(conn: &mut $Conn, step: Step) -> Result<(), Error> {
            let transfer = async |conn: &mut $Conn| {
                withdraw(conn, step).await?;
                sleep(Duration::from_millis(1)).await;
                deposit(conn, step).await
            };
            let _ = timeout(step.abandoned_after, conn.transaction(transfer)).await;
            Ok(())
        }
    };
}

mod plain {
    use super::*;
    calls!([async] [.await] AsyncPgConnection);
    abandon!(AsyncPgConnection);
}

type Bb8Conn = bb8::PooledConnection<'static, AsyncPgConnection>;

pool!(
    Bb8,
    of_bb8,
    "bb8",
    bb8::Pool<AsyncPgConnection>,
    Bb8Conn,
    |manager| bb8::Pool::builder().max_size(1).build_unchecked(manager),
    |pool| pool.get_owned(),
    |conn, _| drop(conn)
);

pool!(
    Deadpool,
    of_deadpool,
    "deadpool",
    deadpool::Pool<AsyncPgConnection>,
    deadpool::Object<AsyncPgConnection>,
    |manager| deadpool::Pool::builder(manager)
        .max_size(1)
        .build()
        .expect("a pool"),
    |pool| pool.get(),
    |conn, step: Step| if step.is_in_transaction() {
        drop(deadpool::Object::take(conn));
    }
);

pool!(
    Mobc,
    of_mobc,
    "mobc",
    mobc::Pool<AsyncPgConnection>,
    mobc::PooledConnection<AsyncPgConnection>,
    |manager| mobc::Pool::builder().max_open(1).build(manager),
    |pool| pool.get(),
    |conn: mobc::PooledConnection<AsyncPgConnection>, step: Step| if step.is_in_transaction() {
        drop(conn.into_inner());
    }
);
