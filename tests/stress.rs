//! Eight sessions after fifty keys, with all that can go wrong on the way.
//!
//! Half of them are sync, half async, all from pools. They wait, wait for a while or not
//! at all; they fail, panic, are cancelled, lose their session, or lose it while waiting.
//! `PGLOCK_STRESS_SEED` repeats what a failure printed, as far as threads can repeat.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use diesel::PgConnection;
use diesel::connection::SimpleConnection;
use diesel::r2d2::ConnectionManager;
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, bb8};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use diesel_pglock::prelude::*;
use diesel_pglock::{AdvisoryKey, Error};

use crate::support::*;

const KEYS: usize = 50;
const WORKERS_OF_A_KIND: usize = 4;
/// Of each worker; eight of them make more than 20,000.
const ACQUISITIONS: u32 = 2_550;

/// The sessions under each lock: the number that share it, or -1.
struct Watch {
    keys: [AtomicI32; KEYS],
    violations: AtomicU32,
}

/// Under a lock as long as this lives.
struct Inside<'w> {
    watch: &'w Watch,
    key: usize,
    shared: bool,
}

impl Watch {
    fn enter(&self, key: usize, shared: bool) -> Inside<'_> {
        let entered = match shared {
            true => self.keys[key].fetch_add(1, SeqCst) >= 0,
            false => self.keys[key]
                .compare_exchange(0, -1, SeqCst, SeqCst)
                .is_ok(),
        };
        if !entered {
            self.violations.fetch_add(1, SeqCst);
        }
        Inside {
            watch: self,
            key,
            shared,
        }
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let key = &self.watch.keys[self.key];
        match self.shared {
            true => key.fetch_sub(1, SeqCst),
            false => key.swap(0, SeqCst),
        };
    }
}

#[derive(Clone, Copy)]
enum Lock {
    Session,
    Nested,
    Transaction,
}

#[derive(Clone, Copy)]
enum Patience {
    Endless,
    Some(Duration),
    None,
}

#[derive(Clone, Copy)]
enum End {
    Well,
    Failed,
    Panicked,
    /// The own session is terminated.
    Lost,
    /// Sessions that wait for the lock are terminated.
    Alone,
}

/// One turn.
#[derive(Clone, Copy)]
struct Turn {
    key: usize,
    shared: bool,
    lock: Lock,
    patience: Patience,
    end: End,
    /// The moment at which an async call is dropped.
    dropped_after: Option<Duration>,
}

impl Turn {
    fn new(chance: &mut Chance) -> Self {
        let crowded = chance.below(4) == 0;
        let shared = chance.below(5) == 0;
        Self {
            key: chance.below(if crowded { 3 } else { KEYS as u64 }) as usize,
            shared,
            lock: match chance.below(10) {
                0..6 => Lock::Session,
                6..8 => Lock::Nested,
                _ => Lock::Transaction,
            },
            patience: match chance.below(3) {
                0 => Patience::Endless,
                1 => Patience::Some(Duration::from_millis(1 + chance.below(10))),
                _ => Patience::None,
            },
            end: match chance.below(200) {
                0..20 => End::Failed,
                20..24 => End::Panicked,
                24..26 => End::Lost,
                26..28 if !shared => End::Alone,
                _ => End::Well,
            },
            dropped_after: (chance.below(50) == 0)
                .then(|| Duration::from_micros(chance.below(3000))),
        }
    }

    fn key(&self) -> AdvisoryKey {
        AdvisoryKey::pair(7, self.key as i32)
    }

    /// Returns `true` if the lock goes with the statement that runs under it: with the session, or
    /// with the transaction, which ends for the locks when it fails, not with the rollback.
    fn loses_the_lock(&self) -> bool {
        matches!(
            (self.end, self.lock),
            (End::Lost, _) | (End::Failed, Lock::Transaction)
        )
    }

    /// The statement that the session runs under the lock.
    fn work(&self) -> String {
        // Only a session without a timeout still waits when the signal arrives: this
        // session has the lock. Another may hold the next one by then, and lose it unseen.
        let waiters = format!(
            "SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
             WHERE NOT granted AND locktype = 'advisory' AND classid = 7 AND objid = {}
             AND datname = current_database() AND strpos(query, '::text') = 0",
            self.key
        );
        match self.end {
            End::Well | End::Panicked => "SELECT 1".to_owned(),
            End::Failed => "SELECT 1/0".to_owned(),
            End::Lost => "SELECT pg_terminate_backend(pg_backend_pid())".to_owned(),
            End::Alone => waiters,
        }
    }
}

macro_rules! with_options {
    ($lock:expr, $turn:ident) => {{
        let lock = $lock;
        let lock = if $turn.shared { lock.shared() } else { lock };
        match $turn.patience {
            Patience::Endless => lock,
            Patience::Some(timeout) => lock.timeout(timeout),
            Patience::None => lock.nowait(),
        }
    }};
}

/// One turn on a connection of either kind: `$wait` is `.await` or nothing.
macro_rules! take_turn {
    ([$($async:tt)?] [$($wait:tt)*] $handle:ty, $conn:ident, $turn:ident, $watch:ident, $taken:ident) => {{
        let under = $($async)? |conn: &mut $handle| -> Result<(), Error> {
            let inside = $watch.enter($turn.key, $turn.shared);
            $taken.fetch_add(1, SeqCst);
            let inside = (!$turn.loses_the_lock()).then_some(inside);
            conn.batch_execute(&$turn.work()) $($wait)* ?;
            if let End::Panicked = $turn.end {
                resume_unwind(Box::new("on purpose")); // without a message
            }
            drop(inside);
            Ok(())
        };
        match $turn.lock {
            Lock::Session => with_options!($conn.advisory($turn.key()), $turn).run(under) $($wait)*,
            Lock::Transaction => {
                with_options!($conn.advisory($turn.key()).xact(), $turn).run(under) $($wait)*
            }
            Lock::Nested => {
                let nested = $($async)? |conn: &mut $handle| -> Result<(), Error> {
                    with_options!(conn.advisory($turn.key()), $turn).run(under) $($wait)*
                };
                $conn.advisory("around").shared().xact().run(nested) $($wait)*
            }
        }
    }};
}

type SyncHandle = diesel::r2d2::PooledConnection<ConnectionManager<PgConnection>>;
type SyncPool = diesel::r2d2::Pool<ConnectionManager<PgConnection>>;

fn sync_worker(pool: &SyncPool, seed: u64, watch: &Watch) {
    let (mut chance, taken) = (Chance(seed), AtomicU32::new(0));
    while taken.load(SeqCst) < ACQUISITIONS {
        let turn = Turn::new(&mut chance);
        let mut conn = pool.get().expect("a connection");
        // The errors are as many as the turns that ask for one, or were refused.
        let _ = catch_unwind(AssertUnwindSafe(
            || take_turn!([] [] SyncHandle, conn, turn, watch, taken),
        ));
    }
}

type AsyncHandle = bb8::PooledConnection<'static, AsyncPgConnection>;
type AsyncPool = bb8::Pool<AsyncPgConnection>;

async fn async_worker(pool: AsyncPool, seed: u64, watch: Arc<Watch>) {
    let (mut chance, taken) = (Chance(seed), Arc::new(AtomicU32::new(0)));
    while taken.load(SeqCst) < ACQUISITIONS {
        let turn = Turn::new(&mut chance);
        let (pool, watch, taken) = (pool.clone(), watch.clone(), taken.clone());
        // A task of its own, so that a panic ends no more than the turn.
        let task = tokio::spawn(async move {
            let mut conn = pool.get_owned().await.expect("a connection");
            let call = async { take_turn!([async] [.await] AsyncHandle, conn, turn, watch, taken) };
            match turn.dropped_after {
                Some(limit) => drop(tokio::time::timeout(limit, call).await),
                None => drop(call.await),
            }
        });
        let _ = task.await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_two_sessions_hold_a_lock_at_once_and_nothing_is_left() {
    let (db, seed) = (Database::new(), seed("PGLOCK_STRESS_SEED"));
    let watch = Arc::new(Watch {
        keys: [const { AtomicI32::new(0) }; KEYS],
        violations: AtomicU32::new(0),
    });
    let size = WORKERS_OF_A_KIND as u32;
    let sync_pool = SyncPool::builder()
        .max_size(size)
        .build(ConnectionManager::new(&db.url))
        .expect("a pool");
    let manager = AsyncDieselConnectionManager::new(&db.url);
    let async_pool = AsyncPool::builder().max_size(size).build(manager).await;
    let async_pool = async_pool.expect("a pool");

    let threads: Vec<_> = (0..WORKERS_OF_A_KIND as u64)
        .map(|i| {
            let (pool, watch) = (sync_pool.clone(), watch.clone());
            std::thread::spawn(move || sync_worker(&pool, seed ^ i, &watch))
        })
        .collect();
    let tasks: Vec<_> = (0..WORKERS_OF_A_KIND as u64)
        .map(|i| {
            let worker = async_worker(async_pool.clone(), seed ^ (100 + i), watch.clone());
            tokio::spawn(worker)
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic but on purpose");
    }
    for thread in threads {
        let joined = tokio::task::spawn_blocking(|| thread.join()).await;
        assert!(joined.expect("a thread").is_ok(), "seed {seed}");
    }

    let violations = watch.violations.load(SeqCst);
    assert_eq!(violations, 0, "sessions let in beside another; seed {seed}");
    let mut observer = db.connect();
    let what = format!("no lock is left; seed {seed}");
    crate::async_contract::eventually(&what, || advisory_locks(&mut observer) == 0).await;
}
