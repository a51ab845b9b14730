//! The graph of a world that stands still, against a model of the server's lock queues.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use diesel::PgConnection;
use diesel::QueryResult;
use diesel::connection::SimpleConnection;
use diesel_pglock::{BlockKind, WaitGraph};

use crate::support::*;

const SESSIONS: usize = 9;
const KEYS: usize = 4;

/// A session that runs statements in a thread of its own.
struct Actor {
    pid: i32,
    statements: Sender<String>,
    results: Receiver<QueryResult<()>>,
}

impl Actor {
    fn new(db: &Database) -> Self {
        let mut conn = db.running("SET deadlock_timeout = '1h'");
        let pid = pid(&mut conn);
        let (statements, received) = channel::<String>();
        let (sender, results) = channel();
        thread::spawn(move || {
            for sql in received {
                let _ = sender.send(conn.batch_execute(&sql));
            }
        });
        Self {
            pid,
            statements,
            results,
        }
    }

    fn run(&self, sql: String) {
        self.statements.send(sql).unwrap();
    }
}

/// A lock that a session holds or awaits.
#[derive(Clone, Copy, Debug)]
struct Request {
    session: usize,
    is_shared: bool,
}

impl Request {
    fn conflicts_with(&self, other: &Self) -> bool {
        self.session != other.session && !(self.is_shared && other.is_shared)
    }
}

/// The holders of a key, and its queue.
#[derive(Debug, Default)]
struct Lock {
    holders: Vec<Request>,
    queue: Vec<Request>,
}

impl Lock {
    fn request(&mut self, request: Request) {
        self.queue.push(request);
        self.wake();
    }

    fn remove(&mut self, session: usize) {
        self.holders.retain(|it| it.session != session);
        self.queue.retain(|it| it.session != session);
        self.wake();
    }

    /// Grants each request that conflicts with no holder and with no request ahead.
    fn wake(&mut self) {
        let mut left: Vec<Request> = Vec::new();
        for request in self.queue.drain(..) {
            let mut others = self.holders.iter().chain(&left);
            if others.any(|it| it.conflicts_with(&request)) {
                left.push(request);
            } else {
                self.holders.push(request);
            }
        }
        self.queue = left;
    }
}

type Edges = BTreeMap<i32, BTreeMap<i32, BlockKind>>;

struct World {
    actors: Vec<Actor>,
    locks: Vec<Lock>,
    random: u64,
}

impl World {
    fn new(db: &Database) -> Self {
        Self {
            actors: (0..SESSIONS).map(|_| Actor::new(db)).collect(),
            locks: (0..KEYS).map(|_| Lock::default()).collect(),
            random: 20_261_125,
        }
    }

    fn random(&mut self, below: usize) -> usize {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) as usize % below
    }

    fn is_waiting(&self, session: usize) -> bool {
        let mut queues = self.locks.iter().flat_map(|lock| &lock.queue);
        queues.any(|it| it.session == session)
    }

    fn waiting_pids(&self) -> BTreeSet<i32> {
        let waiting = (0..SESSIONS).filter(|it| self.is_waiting(*it));
        waiting.map(|it| self.actors[it].pid).collect()
    }

    /// Lets one session take a step, or cancels one if all wait.
    fn step(&mut self, observer: &mut PgConnection) {
        let free: Vec<usize> = (0..SESSIONS).filter(|it| !self.is_waiting(*it)).collect();
        if free.is_empty() || self.random(20) == 0 && free.len() < SESSIONS {
            return self.cancel(observer);
        }
        let session = free[self.random(free.len())];
        let before = self.waiting_pids();
        if self.random(5) == 0 {
            self.actors[session].run("SELECT pg_advisory_unlock_all()".into());
            self.locks.iter_mut().for_each(|it| it.remove(session));
        } else {
            self.acquire(session);
        }
        self.settle(&before, Some(session), observer);
    }

    fn acquire(&mut self, session: usize) {
        let key = self.random(KEYS);
        let is_shared = self.random(3) == 0;
        let mode = if is_shared { "_shared" } else { "" };
        let holders = &self.locks[key].holders;
        let sql = if holders.iter().any(|it| it.session == session) {
            "SELECT 1".to_owned()
        } else {
            let request = Request { session, is_shared };
            self.locks[key].request(request);
            format!("SELECT pg_advisory_lock{mode}({key})")
        };
        self.actors[session].run(sql);
    }

    fn cancel(&mut self, observer: &mut PgConnection) {
        let waiting: Vec<usize> = (0..SESSIONS).filter(|it| self.is_waiting(*it)).collect();
        let session = waiting[self.random(waiting.len())];
        let before = self.waiting_pids();
        let pid = self.actors[session].pid;
        count(observer, &format!("SELECT pg_cancel_backend({pid})::int"));
        for lock in &mut self.locks {
            lock.queue.retain(|it| it.session != session);
            lock.wake();
        }
        assert!(self.actors[session].results.recv().unwrap().is_err());
        let mut granted = before;
        granted.remove(&pid);
        self.settle(&granted, None, observer);
    }

    /// Waits until the server is where the model is.
    fn settle(&self, before: &BTreeSet<i32>, stepped: Option<usize>, observer: &mut PgConnection) {
        let waiting = self.waiting_pids();
        for (session, actor) in self.actors.iter().enumerate() {
            let was_active = before.contains(&actor.pid) || stepped == Some(session);
            if was_active && !waiting.contains(&actor.pid) {
                actor.results.recv().unwrap().unwrap();
            }
        }
        let pids: Vec<String> = waiting.iter().map(ToString::to_string).collect();
        let those = format!("ARRAY[{}]::int[]", pids.join(","));
        let waiters = "SELECT coalesce(array_agg(pid ORDER BY pid), '{}') FROM pg_locks";
        let is_settled = format!("SELECT (({waiters} WHERE NOT granted) = {those})::int");
        wait_until("the server is settled", || {
            count(observer, &is_settled) == 1
        });
    }

    fn edges(&self) -> Edges {
        let mut edges = Edges::new();
        let pid = |request: &Request| self.actors[request.session].pid;
        for lock in &self.locks {
            for (place, waiter) in lock.queue.iter().enumerate() {
                let blockers = edges.entry(pid(waiter)).or_default();
                let conflicts = |it: &&Request| it.conflicts_with(waiter);
                let soft = lock.queue[..place].iter().filter(conflicts);
                blockers.extend(soft.map(|it| (pid(it), BlockKind::Soft)));
                let hard = lock.holders.iter().filter(conflicts);
                blockers.extend(hard.map(|it| (pid(it), BlockKind::Hard)));
            }
        }
        edges
    }
}

fn edges_of(graph: &WaitGraph) -> Edges {
    let waits = graph
        .nodes()
        .filter_map(|it| Some((it.pid?, it.wait.as_ref()?)));
    let blockers = waits.map(|(pid, wait)| {
        let blockers = wait.blockers.iter().map(|it| (it.pid.unwrap(), it.kind));
        (pid, blockers.collect())
    });
    blockers.collect()
}

/// Returns whether some waits can never end, by removing those that can.
fn has_cycle(edges: &Edges) -> bool {
    let mut left = edges.clone();
    loop {
        let before = left.len();
        let waiting: BTreeSet<i32> = left.keys().copied().collect();
        left.retain(|_, blockers| blockers.keys().any(|it| waiting.contains(it)));
        if left.len() == before {
            return before > 0;
        }
    }
}

#[test]
fn a_frozen_world_is_shown_exactly() {
    let server = pglock_sandbox::Sandbox::start().unwrap();
    let db = Database::on(&server);
    let mut world = World::new(&db);
    let mut observer = db.connect();
    let (mut cycles, mut soft) = (0, 0);
    for _ in 0..300 {
        world.step(&mut observer);
        let graph = WaitGraph::load(&mut observer).unwrap();
        let expected = world.edges();
        assert_eq!(edges_of(&graph), expected, "{graph}");
        let waiters: BTreeSet<i32> = expected.keys().copied().collect();
        let blockers: BTreeSet<i32> = expected.values().flatten().map(|it| *it.0).collect();
        let roots: BTreeSet<i32> = graph.roots().filter_map(|it| it.pid).collect();
        assert_eq!(roots, &blockers - &waiters, "{graph}");
        assert_eq!(!graph.cycles().is_empty(), has_cycle(&expected), "{graph}");
        cycles += graph.cycles().len();
        let kinds = expected.values().flatten();
        soft += kinds.filter(|it| *it.1 == BlockKind::Soft).count();
    }
    assert!(
        cycles > 10 && soft > 100,
        "{cycles} cycles, {soft} soft blocks"
    );
}
