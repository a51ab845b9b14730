//! The contract on async connections; see `contract/`.

use std::time::Duration;

pub use diesel_async::{AsyncConnection, SimpleAsyncConnection};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
pub use diesel_pglock::prelude::*;
use futures_util::FutureExt;

use crate::support;

/// The connection under test.
pub type Conn = AsyncPgConnection;

pub async fn connect(url: &str) -> Conn {
    Conn::establish(url).await.expect("a session")
}

macro_rules! scenario {
    ($name:ident, |$db:ident| $body:block) => {
        #[tokio::test]
        async fn $name() {
            let $db = crate::support::Database::new();
            $body
        }
    };
}

/// Awaits a future, if the contract runs on async connections.
macro_rules! wait {
    ($answer:expr) => {
        $answer.await
    };
}

/// A closure that may wait.
macro_rules! closure {
    (|$conn:pat_param| -> $output:ty { $($body:tt)* }) => {
        async |$conn| -> $output { $($body)* }
    };
    (|$conn:pat_param| $body:expr) => {
        async |$conn| $body
    };
}

/// Returns the answer of the first, which waits until the second releases it.
macro_rules! meanwhile {
    ($waiting:expr, $then:expr) => {
        tokio::join!(async { $waiting }, async { $then }).0
    };
}

/// Returns true if it panics.
macro_rules! panics {
    ($body:expr) => {
        super::panics(async { $body }).await
    };
}

async fn panics<T>(body: impl Future<Output = T>) -> bool {
    let body = std::panic::AssertUnwindSafe(body);
    body.catch_unwind().await.is_err()
}

/// Waits for a condition, and lets the tasks of dropped connections go on meanwhile.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let limit = Duration::from_secs(30);
    let come_true = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let in_time = tokio::time::timeout(limit, come_true).await;
    assert!(in_time.is_ok(), "{what}: not within {limit:?}");
}

/// Lets time pass, in tests about time.
pub async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

/// A statement that fails.
pub async fn fail(conn: &mut Conn) -> diesel_pglock::Result<()> {
    Ok(conn.batch_execute("SELECT 1/0").await?)
}

pub async fn number(conn: &mut Conn, query: &str) -> i64 {
    let query = diesel::select(support::number(query));
    query.get_result(conn).await.expect("a number")
}

pub async fn setting(conn: &mut Conn, name: &str) -> String {
    let query = diesel::select(support::current_setting(name));
    query.get_result(conn).await.expect("a setting")
}

pub async fn backend(conn: &mut Conn) -> i32 {
    conn.backend_pid().await.expect("a pid")
}

pub async fn wait_until_blocked(observer: &mut diesel::PgConnection, pid: i32) {
    eventually("the session waits", || support::is_blocked(observer, pid)).await;
}

#[path = "contract/abandoned.rs"]
mod abandoned;
#[path = "contract/advisory.rs"]
mod advisory;
#[path = "contract/closure.rs"]
mod closure;
#[path = "contract/cost.rs"]
mod cost;
#[path = "contract/german.rs"]
mod german;
#[path = "contract/lock_timeout.rs"]
mod lock_timeout;
#[path = "contract/pgbouncer.rs"]
mod pgbouncer;
#[path = "contract/statement_timeout.rs"]
mod statement_timeout;
#[path = "contract/table_lock.rs"]
mod table_lock;
#[path = "contract/xact.rs"]
mod xact;
