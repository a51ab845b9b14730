//! The calls that are cancelled, on both kinds of connection.

use std::sync::LazyLock;
use std::time::Duration;

use diesel::PgConnection;
use diesel::connection::{Connection, Instrumentation, SimpleConnection, TransactionManager};
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use diesel_pglock::prelude::*;
use diesel_pglock::{Error, TableLockMode::Exclusive};
use tokio::runtime::Runtime;

use crate::support::users;

/// The limit of a wait for the lock.
const LONG: Duration = Duration::from_secs(20);

/// A kind of connection.
pub trait Front {
    const KIND: &'static str;

    fn open(url: &str) -> Self;
    fn instrument(&mut self, instrumentation: impl Instrumentation);
    fn pid(&mut self) -> i32;
    /// Returns `true` if the session lives, outside a transaction.
    fn is_usable(&mut self) -> bool;
}

/// A call on a connection.
pub struct Call<C> {
    pub name: &'static str,
    /// Another session holds the lock when the call starts.
    pub waits: bool,
    pub make: fn(&mut C) -> Result<(), Error>,
}

impl Front for PgConnection {
    const KIND: &'static str = "sync";

    fn open(url: &str) -> Self {
        Self::establish(url).expect("a session")
    }

    fn instrument(&mut self, instrumentation: impl Instrumentation) {
        self.set_instrumentation(instrumentation);
    }

    fn pid(&mut self) -> i32 {
        self.backend_pid().expect("a pid")
    }

    fn is_usable(&mut self) -> bool {
        type Transactions = <PgConnection as Connection>::TransactionManager;
        let is_broken = Transactions::is_broken_transaction_manager(self);
        !is_broken && self.batch_execute("SELECT 1").is_ok()
    }
}

pub fn syncs() -> Vec<Call<PgConnection>> {
    fn call(
        name: &'static str,
        make: fn(&mut PgConnection) -> Result<(), Error>,
    ) -> Call<PgConnection> {
        let waits = name.contains("waits");
        Call { name, waits, make }
    }
    vec![
        call("run", |conn| conn.advisory(1).run(work)),
        call("try_run", |conn| conn.advisory(1).try_run(work).map(drop)),
        call("acquire and release", |conn| {
            conn.advisory(1).acquire()?.release()
        }),
        call("run in a transaction", |conn| {
            conn.transaction(|conn| conn.advisory(1).run(work))
        }),
        call("try_run in a transaction", |conn| {
            conn.transaction(|conn| conn.advisory(1).try_run(work).map(drop))
        }),
        call("acquire and release in a transaction", |conn| {
            conn.transaction(|conn| conn.advisory(1).acquire()?.release())
        }),
        call("run that waits", |conn| {
            conn.advisory(1).timeout(LONG).run(work)
        }),
        call("run that waits in a transaction", |conn| {
            conn.transaction(|conn| conn.advisory(1).timeout(LONG).run(work))
        }),
        call("shared run", |conn| conn.advisory(1).shared().run(work)),
        call("xact run", |conn| conn.advisory(1).xact().run(work)),
        call("lock_table run that waits", |conn| {
            conn.lock_table::<users::table>(Exclusive).run(work)
        }),
        call("run under a lock_timeout", |conn| {
            conn.with_lock_timeout(LONG, |conn| conn.advisory(1).run(work))
        }),
    ]
}

fn work(conn: &mut PgConnection) -> Result<(), Error> {
    Ok(conn.batch_execute("SELECT 1")?)
}

/// Drives the futures, and the connections only meanwhile.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_multi_thread();
    { runtime }
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
});

impl Front for AsyncPgConnection {
    const KIND: &'static str = "async";

    fn open(url: &str) -> Self {
        let connected = RUNTIME.block_on(<Self as AsyncConnection>::establish(url));
        connected.expect("a session")
    }

    fn instrument(&mut self, instrumentation: impl Instrumentation) {
        AsyncConnection::set_instrumentation(self, instrumentation);
    }

    fn pid(&mut self) -> i32 {
        RUNTIME.block_on(self.backend_pid()).expect("a pid")
    }

    fn is_usable(&mut self) -> bool {
        use diesel_async::TransactionManager;
        type Transactions = <AsyncPgConnection as AsyncConnection>::TransactionManager;
        let is_broken = Transactions::is_broken_transaction_manager(self);
        !is_broken && RUNTIME.block_on(self.batch_execute("SELECT 1")).is_ok()
    }
}

pub fn asyncs() -> Vec<Call<AsyncPgConnection>> {
    type Conn = AsyncPgConnection;
    fn call(name: &'static str, make: fn(&mut Conn) -> Result<(), Error>) -> Call<Conn> {
        let waits = name.contains("waits");
        Call { name, waits, make }
    }
    vec![
        call("run", |conn| {
            RUNTIME.block_on(conn.advisory(1).run(async |conn| work_async(conn).await))
        }),
        call("run in a transaction", |conn| {
            let run = async |conn: &mut Conn| {
                let lock = conn.advisory(1);
                lock.run(async |conn| work_async(conn).await).await
            };
            RUNTIME.block_on(conn.transaction(run))
        }),
        call("run that waits", |conn| {
            let lock = conn.advisory(1).timeout(LONG);
            RUNTIME.block_on(lock.run(async |conn| work_async(conn).await))
        }),
        call("run that waits in a transaction", |conn| {
            let run = async |conn: &mut Conn| {
                let lock = conn.advisory(1).timeout(LONG);
                lock.run(async |conn| work_async(conn).await).await
            };
            RUNTIME.block_on(conn.transaction(run))
        }),
        call("xact run", |conn| {
            let lock = conn.advisory(1).xact();
            RUNTIME.block_on(lock.run(async |conn| work_async(conn).await))
        }),
        call("lock_table run that waits", |conn| {
            let lock = conn.lock_table::<users::table>(Exclusive);
            RUNTIME.block_on(lock.run(async |conn| work_async(conn).await))
        }),
    ]
}

async fn work_async(conn: &mut AsyncPgConnection) -> Result<(), Error> {
    Ok(conn.batch_execute("SELECT 1").await?)
}
