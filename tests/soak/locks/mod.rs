//! The soak of the locks.
//!
//! Workers take random steps on connections of each kind and role, while sessions are cancelled
//! and terminated at random. After each round the pools are idle, and then no session holds
//! anything.

mod aftermath;
mod async_source;
mod calls;
mod disturbance;
mod step;
mod sync_source;
mod worker;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::timeout;

use self::async_source::{AsyncSource, Bb8, Deadpool, Mobc};
use self::sync_source::{R2d2, Source};
use self::worker::{AsyncWorker, SyncWorker, Worker};
use self::world::{ROLES, Role, World};
use super::journal::Journal;
use super::settings;
use crate::support::Chance;

/// The time between two checks.
const ROUND: Duration = Duration::from_secs(2);

/// The limit for the last steps of a round, with all waits of the server.
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_lock_and_no_setting_is_left_behind() {
    let (seed, duration) = (settings::seed(), settings::duration(20));
    let world = Arc::new(World::new(Journal::new(seed)));
    let workers = workers(&world).await;
    let (mut chance, started) = (Chance(seed), Instant::now());
    while started.elapsed() < duration {
        round(&world, &workers, &mut chance).await;
        check(&world, &workers).await;
    }
    world.journal.print_counts();
    for needed in ["cancels", "terminations", "tokens", "outcomes: dropped"] {
        assert!(world.journal.counted(needed) > 0, "no {needed}");
    }
}

async fn workers(world: &World) -> Vec<Arc<dyn Worker>> {
    let mut workers: Vec<Arc<dyn Worker>> = Vec::new();
    for role in ROLES {
        workers.extend([
            on_sync::<sync_source::Plain>(world, role),
            on_sync::<R2d2>(world, role),
            on_async::<async_source::Plain>(world, role).await,
            on_async::<Bb8>(world, role).await,
            on_async::<Deadpool>(world, role).await,
            on_async::<Mobc>(world, role).await,
        ]);
    }
    workers
}

fn on_sync<S: Source>(world: &World, role: Role) -> Arc<dyn Worker> {
    let source = S::open(&world.url(role));
    Arc::new(SyncWorker { role, source })
}

async fn on_async<S: AsyncSource>(world: &World, role: Role) -> Arc<dyn Worker> {
    let source = S::open(&world.url(role)).await;
    Arc::new(AsyncWorker { role, source })
}

/// Lets all workers take steps under disturbances.
async fn round(world: &Arc<World>, workers: &[Arc<dyn Worker>], chance: &mut Chance) {
    let done = Arc::new(AtomicBool::new(false));
    let disturbing = tokio::task::spawn_blocking({
        let (world, done, mut chance) = (world.clone(), done.clone(), Chance(chance.next()));
        move || disturbance::disturb(&world, &mut chance, &done)
    });
    let until = Instant::now() + ROUND;
    let mut steps = JoinSet::new();
    for worker in workers {
        let chance = Chance(chance.next());
        steps.spawn(worker.clone().work(world.clone(), chance, until));
    }
    let ended = timeout(ROUND + LIMIT, steps.join_all()).await;
    done.store(true, Ordering::SeqCst);
    disturbing.await.expect("the disturbances");
    assert!(ended.is_ok(), "a step does not end");
}

/// Checks what is left while all connections are idle.
async fn check(world: &Arc<World>, workers: &[Arc<dyn Worker>]) {
    let checked = tokio::task::spawn_blocking({
        let world = world.clone();
        move || aftermath::check(&world, &mut world.observer())
    });
    checked.await.expect("nothing is left");
    for worker in workers {
        worker.close_broken();
        worker.clone().check_settings().await;
    }
}
