//! The types of the queries that the filters return, for the signatures of functions.
//!
//! ```
//! use diesel_pglock::dsl::{Advisory, Waiting};
//! use diesel_pglock::{AdvisoryKey, PgLock, PgLockDsl, PgLockQuery};
//!
//! fn waiters(key: AdvisoryKey) -> Waiting<Advisory<PgLockQuery>> {
//!     PgLock::query().advisory(key).waiting()
//! }
//! # let sql = diesel::debug_query::<diesel::pg::Pg, _>(&waiters(7.into())).to_string();
//! # assert!(sql.contains("= 'advisory'") && sql.contains("binds: [0, 7, 1]"), "{sql}");
//! ```

use chrono::TimeDelta;
use diesel::dsl::{Eq, EqAny, Filter, Gt, not};

use crate::tables::{pg_locks, pg_stat_activity};
use crate::types::{LockMode, LockType};
use crate::views::blocking_table as blocking;
use crate::views::{InCurrentDatabase, WaitDuration};
use crate::views::{IsAdvisory, IsOn, IsRoot};

/// The type of `query.on::<T>()` and `query.on_relation(name)`.
pub type On<Q> = Filter<Q, IsOn>;
/// The type of `query.advisory(key)`.
pub type Advisory<Q> = Filter<Q, IsAdvisory>;
/// The type of `query.pid(pid)`.
pub type Pid<Q> = Filter<Q, Eq<pg_locks::pid, i32>>;
/// The type of `query.pids(pids)`.
pub type Pids<Q> = Filter<Q, EqAny<pg_locks::pid, Vec<i32>>>;
/// The type of `query.granted()`.
pub type Granted<Q> = Filter<Q, pg_locks::granted>;
/// The type of `query.waiting()`.
pub type Waiting<Q> = Filter<Q, not<pg_locks::granted>>;
/// The type of `query.mode(mode)`.
pub type Mode<Q> = Filter<Q, Eq<pg_locks::mode, LockMode>>;
/// The type of `query.lock_type(lock_type)`.
pub type OfType<Q> = Filter<Q, Eq<pg_locks::locktype, LockType>>;
/// The type of `query.waiting_longer_than(limit)` and `query.blocking_longer_than(limit)`.
pub type WaitingLongerThan<Q> = Filter<Q, Gt<WaitDuration, TimeDelta>>;
/// The type of `query.application(name)`.
pub type Application<Q> = Filter<Q, Eq<pg_stat_activity::application_name, String>>;
/// The type of `query.current_database()`.
pub type CurrentDatabase<Q> = Filter<Q, InCurrentDatabase>;
/// The type of `query.roots()`.
pub type Roots<Q> = Filter<Q, IsRoot>;
/// The type of `query.blocked_by(pid)`.
pub type BlockedBy<Q> = Filter<Q, Eq<blocking::pid, i32>>;
