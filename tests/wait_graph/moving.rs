//! The graph of a world in motion, against the log of the sessions that move.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel_pglock::{BlockKind, WaitGraph};

use crate::support::*;

/// The key for which all sessions compete.
const KEY: i64 = 9_001;

/// What a session is doing, as it knows for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It neither holds nor awaits the lock.
    Idle,
    /// It asked for the lock or for its release, and has no answer yet.
    Unknown,
    /// It holds the lock.
    Holds,
}

/// A session that acquires and releases the lock, and the log of its phases.
struct Player {
    pid: i32,
    is_shared: bool,
    /// Each phase with its start.
    log: Mutex<Vec<(Instant, Phase)>>,
}

impl Player {
    fn enter(&self, phase: Phase) {
        self.log.lock().unwrap().push((Instant::now(), phase));
    }

    /// Returns true if the session was in the phase throughout.
    fn is_throughout(&self, phase: Phase, start: Instant, end: Instant) -> bool {
        let log = self.log.lock().unwrap();
        let current = log.iter().rposition(|(at, _)| *at <= start);
        let Some(current) = current else { return false };
        log[current].1 == phase && log.get(current + 1).is_none_or(|(at, _)| *at >= end)
    }

    /// Plays until `ended`, and forgets what happened more than a second ago.
    fn play(&self, db: &Database, conn: &mut diesel::PgConnection, ended: &AtomicBool) {
        let mode = if self.is_shared { "_shared" } else { "" };
        let (lock, unlock) = ("pg_advisory_lock", "pg_advisory_unlock");
        let mut random = u64::from(self.pid.unsigned_abs()) + db.name.len() as u64;
        while !ended.load(Ordering::Relaxed) {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            self.enter(Phase::Unknown);
            conn.batch_execute(&format!("SELECT {lock}{mode}({KEY})"))
                .unwrap();
            self.enter(Phase::Holds);
            // Most sessions are fast, so that the world changes while the server reads it.
            if random >> 58 == 0 {
                thread::sleep(Duration::from_micros((random >> 33) % 8_000));
            }
            self.enter(Phase::Unknown);
            conn.batch_execute(&format!("SELECT {unlock}{mode}({KEY})"))
                .unwrap();
            self.enter(Phase::Idle);
            let mut log = self.log.lock().unwrap();
            let old = log.len().saturating_sub(1000);
            log.drain(..old);
        }
    }
}

/// What the log refutes in a graph.
#[derive(Debug, Default, PartialEq, Eq)]
struct Refuted {
    cycles: usize,
    roots: usize,
    edges: usize,
}

/// Compares a graph that was loaded between two moments with the log.
fn refute(graph: &WaitGraph, players: &[Player], start: Instant, end: Instant) -> Refuted {
    let player = |pid: Option<i32>| players.iter().find(|it| Some(it.pid) == pid);
    // A session of this world awaits its only lock while it holds none: there is no deadlock.
    let mut refuted = Refuted {
        cycles: graph.cycles().len(),
        ..Refuted::default()
    };
    let cannot_hold = |it: &Player| {
        it.is_throughout(Phase::Idle, start, end)
            || players.iter().any(|other| {
                other.pid != it.pid
                    && !(other.is_shared && it.is_shared)
                    && other.is_throughout(Phase::Holds, start, end)
            })
    };
    let cannot_wait = |it: &Player| {
        it.is_throughout(Phase::Idle, start, end) || it.is_throughout(Phase::Holds, start, end)
    };
    for root in graph.roots() {
        let has_waiters = graph.waiters_of(root.pid.unwrap()).next().is_some();
        if !has_waiters || player(root.pid).is_some_and(cannot_hold) {
            refuted.roots += 1;
        }
    }
    for node in graph.nodes() {
        let Some((waiter, wait)) = player(node.pid).zip(node.wait.as_ref()) else {
            continue;
        };
        let is_refuted = |kind: BlockKind, blocker: &Player| match kind {
            BlockKind::Hard => cannot_hold(blocker),
            BlockKind::Soft => cannot_wait(blocker),
        };
        let mut blockers = wait.blockers.iter();
        if cannot_wait(waiter)
            || blockers.any(|it| player(it.pid).is_some_and(|player| is_refuted(it.kind, player)))
        {
            refuted.edges += 1;
        }
    }
    refuted
}

/// Loads graphs while ten sessions move. `PGLOCK_SNAPSHOTS` is their number; default: 500.
#[test]
fn a_world_in_motion_refutes_no_cycle_and_no_root() {
    let snapshots = std::env::var("PGLOCK_SNAPSHOTS").map_or(500, |n| n.parse().unwrap());
    let server = pglock_sandbox::Sandbox::start().unwrap();
    let db = Database::on(&server);
    let mut sessions: Vec<_> = (0..10).map(|_| db.connect()).collect();
    let players: Vec<Player> = sessions
        .iter_mut()
        .enumerate()
        .map(|(i, conn)| Player {
            pid: pid(conn),
            is_shared: i % 3 == 0,
            log: Mutex::new(vec![(Instant::now(), Phase::Idle)]),
        })
        .collect();
    let ended = AtomicBool::new(false);
    let (mut refuted, mut waiters) = (Vec::new(), 0);
    thread::scope(|scope| {
        for (player, mut conn) in players.iter().zip(sessions) {
            let (db, ended) = (&db, &ended);
            scope.spawn(move || player.play(db, &mut conn, ended));
        }
        let mut observer = db.connect();
        for _ in 0..snapshots {
            let start = Instant::now();
            let graph = WaitGraph::load(&mut observer).unwrap();
            let end = Instant::now();
            waiters += graph.nodes().filter(|node| node.wait.is_some()).count();
            let found = refute(&graph, &players, start, end);
            if found != Refuted::default() {
                refuted.push(found);
            }
        }
        ended.store(true, Ordering::Relaxed);
    });
    assert!(waiters > snapshots, "only {waiters} waits were seen");
    let sum = |count: fn(&Refuted) -> usize| refuted.iter().map(count).sum::<usize>();
    let (cycles, roots, edges) = (sum(|it| it.cycles), sum(|it| it.roots), sum(|it| it.edges));
    assert_eq!(
        (cycles, roots, edges),
        (0, 0, 0),
        "{waiters} waits in {snapshots} snapshots"
    );
}
