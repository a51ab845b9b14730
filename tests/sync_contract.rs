//! The contract on sync connections; see `contract/`.

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use diesel::connection::{Connection, SimpleConnection};
pub use diesel_pglock::prelude::*;

pub use crate::support::{count as number, pid as backend, setting, wait_until_blocked};

/// The connection under test.
pub type Conn = diesel::PgConnection;

pub fn connect(url: &str) -> Conn {
    Conn::establish(url).expect("a session")
}

macro_rules! scenario {
    ($name:ident, |$db:ident| $body:block) => {
        #[test]
        fn $name() {
            let $db = crate::support::Database::new();
            $body
        }
    };
}

/// Awaits a future, if the contract runs on async connections.
macro_rules! wait {
    ($answer:expr) => {
        $answer
    };
}

/// A closure that may wait.
macro_rules! closure {
    (|$conn:pat_param| -> $output:ty { $($body:tt)* }) => {
        |$conn| -> $output { $($body)* }
    };
    (|$conn:pat_param| $body:expr) => {
        |$conn| $body
    };
}

/// Returns the answer of the first, which waits until the second releases it.
macro_rules! meanwhile {
    ($waiting:expr, $then:expr) => {
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| $waiting);
            $then;
            waiting.join().expect("no panic")
        })
    };
}

/// Returns true if it panics.
macro_rules! panics {
    ($body:expr) => {
        super::panics(|| $body)
    };
}

fn panics<T>(body: impl FnOnce() -> T) -> bool {
    catch_unwind(AssertUnwindSafe(body)).is_err()
}

/// Lets time pass, in tests about time.
pub fn pause(time: std::time::Duration) {
    std::thread::sleep(time);
}

/// A statement that fails.
pub fn fail(conn: &mut Conn) -> diesel_pglock::Result<()> {
    Ok(conn.batch_execute("SELECT 1/0")?)
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
