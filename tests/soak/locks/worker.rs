//! Workers: each takes steps on the connections of one source.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use diesel_pglock::Error;
use futures_util::FutureExt;
use tokio::time::{sleep, timeout};

use super::async_source::AsyncSource;
use super::step::Step;
use super::sync_source::Source;
use super::world::{Role, Settings, World};
use crate::support::Chance;

/// The number of attempts to read the settings of a session that has hardly any time.
const ATTEMPTS: usize = 100;

/// What a worker does, whichever its source is.
pub trait Worker: Send + Sync {
    /// Takes steps until a moment.
    fn work(
        self: Arc<Self>,
        world: Arc<World>,
        chance: Chance,
        until: Instant,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>>;

    /// Checks that the next session has the settings of its role.
    fn check_settings(self: Arc<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>>;

    /// Closes connections that are broken, and were kept.
    fn close_broken(&self);
}

pub struct SyncWorker<S> {
    pub role: Role,
    pub source: S,
}

pub struct AsyncWorker<S> {
    pub role: Role,
    pub source: S,
}

impl<S: Source> Worker for SyncWorker<S> {
    fn work(
        self: Arc<Self>,
        world: Arc<World>,
        mut chance: Chance,
        until: Instant,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let steps = move || {
            while Instant::now() < until {
                std::thread::sleep(chance.micros(10_000));
                self.take_step(&world, Step::new(&mut chance));
            }
        };
        Box::pin(async { tokio::task::spawn_blocking(steps).await.expect("no panic") })
    }

    fn check_settings(self: Arc<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let check = move || {
            let read = || S::settings(&mut self.source.take()?).ok();
            let settings = (0..ATTEMPTS).find_map(|_| read());
            check(S::NAME, self.role, settings);
        };
        Box::pin(async {
            tokio::task::spawn_blocking(check)
                .await
                .expect("the settings")
        })
    }

    fn close_broken(&self) {
        self.source.close_broken();
    }
}

impl<S: Source> SyncWorker<S> {
    fn take_step(&self, world: &World, step: Step) {
        let Some(mut conn) = self.source.take() else {
            return world.journal.count("no connection");
        };
        let call = AssertUnwindSafe(|| S::take_step(&mut conn, step, world));
        let outcome = catch_unwind(call).map_or("panicked", outcome);
        record(world, S::NAME, self.role, step, outcome);
        self.source.put_back(conn, step);
    }
}

impl<S: AsyncSource> Worker for AsyncWorker<S> {
    fn work(
        self: Arc<Self>,
        world: Arc<World>,
        mut chance: Chance,
        until: Instant,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            while Instant::now() < until {
                sleep(chance.micros(1_000)).await;
                self.take_step(&world, Step::new(&mut chance)).await;
            }
        })
    }

    fn check_settings(self: Arc<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            check(S::NAME, self.role, self.settings().await);
        })
    }

    fn close_broken(&self) {
        self.source.close_broken();
    }
}

impl<S: AsyncSource> AsyncWorker<S> {
    async fn settings(&self) -> Option<Settings> {
        for _ in 0..ATTEMPTS {
            // Even logging in may take too long.
            let Some(mut conn) = self.source.take().await else {
                continue;
            };
            if let Ok(settings) = S::settings(&mut conn).await {
                return Some(settings);
            }
        }
        None
    }

    async fn take_step(&self, world: &World, step: Step) {
        let Some(mut conn) = self.source.take().await else {
            return world.journal.count("no connection");
        };
        let call = AssertUnwindSafe(S::take_step(&mut conn, step, world)).catch_unwind();
        let ended = match step.dropped_after {
            Some(limit) => timeout(limit, call).await.ok(),
            None => Some(call.await),
        };
        let outcome = match ended {
            None => "dropped",
            Some(ended) => ended.map_or("panicked", outcome),
        };
        record(world, S::NAME, self.role, step, outcome);
        self.source.put_back(conn, step).await;
    }
}

/// Returns the name of an outcome; fails for the errors that would be faults.
fn outcome(result: Result<bool, Error>) -> &'static str {
    use Error::{InTransaction, NotAcquired, NotHeld, NotInTransaction, SessionChanged};
    match result {
        Ok(true) => "done",
        Ok(false) => "refused to a try",
        Err(NotAcquired { .. }) => "not acquired",
        Err(error @ (NotHeld(_) | SessionChanged { .. } | InTransaction | NotInTransaction)) => {
            panic!("{error}")
        }
        Err(_) => "failed",
    }
}

fn record(world: &World, source: &str, role: Role, step: Step, outcome: &str) {
    let journal = &world.journal;
    journal.count(format!("steps: {source}"));
    journal.count(format!("steps: {}", role.name));
    journal.count(format!("outcomes: {outcome}"));
    journal.step(format!("{source} {}: {step:?}: {outcome}", role.name));
}

fn check(source: &str, role: Role, settings: Option<Settings>) {
    assert_eq!(settings, Some(Settings::of(role)), "{source} {}", role.name);
}
