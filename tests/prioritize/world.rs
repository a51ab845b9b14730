//! A world of sessions at random, and a model that refutes signals.
//!
//! Twelve sessions lock tables, advisory keys and rows, alone and two at a time, briefly and
//! long. One of them updates a row again and again, and the prioritized session sometimes does the
//! same. Just before a session is signalled, it may be told to commit, or to wait for a lock that is
//! never released. The driver records when each request was sent and answered. From that the model
//! knows, for each signal, what cannot have been the case between its decision and its answer.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::time::Instant;

use pglock_sandbox::Sandbox;

use super::*;

const SESSIONS: usize = 12;

/// The session that updates the hot row.
const HOT: usize = 8;

/// The number of the hot row, as an object.
const HOT_ROW: u64 = 9;

/// An object that a spared session holds all the time.
const KEPT: u64 = 100;
const INTERVAL: Duration = Duration::from_millis(4);
const GRACE: Duration = Duration::from_millis(40);

/// The error of the polls: a gap in a block that none of them need have seen.
const GAP: Duration = Duration::from_millis(25);

/// The time after which a request that is not answered certainly waits.
const CERTAIN: Duration = Duration::from_millis(40);

/// Numbers at random, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % limit
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}

/// A request for a lock on an object, and the time until it was released.
#[derive(Clone)]
struct Request {
    session: usize,
    pid: i32,
    object: u64,
    sent: Instant,
    acquired: Option<Instant>,
    /// The answer to the end of the transaction, or the error of the request.
    ended: Option<Instant>,
    /// True if the session was terminated before the answer.
    was_terminated: bool,
}

impl Request {
    /// Returns whether it was not answered before `then`.
    fn is_pending(&self, then: Instant) -> bool {
        // The lock that is kept is never acquired: the session waited until its end.
        let waited_to_its_end = self.was_terminated && self.object == KEPT;
        waited_to_its_end || self.acquired.or(self.ended).is_none_or(|end| end > then)
    }
}

/// A decision to signal a session, and the answer of the signal.
#[derive(Clone, Debug)]
struct Shot {
    pid: i32,
    decided: Instant,
    /// The time at which the session was asked whether it waits, if it did.
    seen_waiting: Option<Instant>,
    answered: Option<Instant>,
    was_sent: bool,
}

struct World {
    requests: Mutex<Vec<Request>>,
    shots: Mutex<Vec<Shot>>,
    commits: Mutex<Vec<Instant>>,
    terminated: Mutex<Vec<(i32, Instant)>>,
    /// The session that is told to commit now.
    told_to_commit: AtomicI32,
    /// The session that is told to wait now.
    told_to_wait: AtomicI32,
    is_over: AtomicBool,
    prepared: AtomicUsize,
}

impl World {
    fn note<T>(list: &Mutex<Vec<T>>, item: T) -> usize {
        let mut list = list.lock().unwrap();
        list.push(item);
        list.len() - 1
    }
}

/// Returns a statement that locks one of nine objects in one of its modes, or the hot row.
fn lock(object: u64, dice: &mut Dice) -> String {
    let number = object % 3 + 1;
    match object / 3 {
        0 => {
            let modes = ["ACCESS SHARE", "ROW EXCLUSIVE", "SHARE", "ACCESS EXCLUSIVE"];
            let mode = modes[usize::try_from(dice.below(4)).unwrap()];
            format!("LOCK TABLE world_{number} IN {mode} MODE")
        }
        1 if dice.below(3) == 0 => format!("SELECT pg_advisory_xact_lock_shared({number})"),
        1 => format!("SELECT pg_advisory_xact_lock({number})"),
        2 => format!("UPDATE cells SET n = n + 1 WHERE id = {number}"),
        _ => "UPDATE cells SET n = n + 1 WHERE id = 4".to_owned(),
    }
}

/// Sends a request, and records its answer.
fn request(
    world: &World,
    session: usize,
    conn: &mut PgConnection,
    pid: i32,
    object: u64,
    sql: &str,
) -> Result<usize, diesel::result::Error> {
    let new = Request {
        session,
        pid,
        object,
        sent: Instant::now(),
        acquired: None,
        ended: None,
        was_terminated: false,
    };
    let index = World::note(&world.requests, new);
    let answer = conn.batch_execute(sql);
    let now = Some(Instant::now());
    let request = &mut world.requests.lock().unwrap()[index];
    match answer {
        Ok(()) => request.acquired = now,
        Err(error) => {
            request.ended = now;
            let text = error.to_string();
            request.was_terminated = !text.contains("lock timeout") && !text.contains("deadlock");
            return Err(error);
        }
    }
    Ok(index)
}

/// Holds for a while, or until it is told to do otherwise. Returns whether it is to wait now.
fn hold(world: &World, pid: i32, time: Duration) -> bool {
    let began = Instant::now();
    let is_told = |told: &AtomicI32| told.load(Ordering::SeqCst) == pid;
    while began.elapsed() < time && !is_told(&world.told_to_commit) {
        if is_told(&world.told_to_wait) {
            return true;
        }
        thread::sleep(Duration::from_micros(200));
    }
    false
}

/// Runs one transaction of a session.
fn transaction(
    world: &World,
    session: usize,
    conn: &mut PgConnection,
    pid: i32,
    dice: &mut Dice,
) -> QueryResult<()> {
    let mut held = Vec::new();
    let ran = (|| {
        conn.batch_execute("BEGIN")?;
        // A third take two locks.
        let locks = if session == HOT {
            1
        } else {
            1 + dice.below(3) / 2
        };
        for _ in 0..locks {
            let object = if session == HOT {
                HOT_ROW
            } else {
                dice.below(9)
            };
            let sql = lock(object, dice);
            held.push(request(world, session, conn, pid, object, &sql)?);
        }
        let time = match session {
            HOT => dice.millis(10, 18),
            _ if session % 2 == 0 => dice.millis(80, 200),
            _ => dice.millis(1, 10),
        };
        if hold(world, pid, time) {
            let wait = format!("SELECT pg_advisory_xact_lock({KEPT})");
            held.push(request(world, session, conn, pid, KEPT, &wait)?);
        }
        match session == 10 && dice.below(2) == 0 {
            true => prepare(world, conn, dice),
            false => conn.batch_execute("COMMIT"),
        }
    })();
    let now = Instant::now();
    if ran.is_ok() {
        World::note(&world.commits, now);
    }
    let mut requests = world.requests.lock().unwrap();
    for index in held {
        requests[index].ended = Some(now);
    }
    ran
}

/// Prepares the transaction, whose locks belong to no session then.
fn prepare(world: &World, conn: &mut PgConnection, dice: &mut Dice) -> QueryResult<()> {
    let name = format!("world_{}", world.prepared.fetch_add(1, Ordering::SeqCst));
    conn.batch_execute(&format!("PREPARE TRANSACTION '{name}'"))?;
    thread::sleep(dice.millis(10, 60));
    conn.batch_execute(&format!("COMMIT PREPARED '{name}'"))
}

fn live(world: &World, db: &Database, session: usize, seed: u64) {
    let mut dice = Dice(seed + 1000 * u64::try_from(session).unwrap());
    let name = match session {
        HOT => "hot",
        11 => "spared",
        _ => "world",
    };
    let connect = || {
        let mut conn = db.running(&format!("SET application_name = '{name}'; SET lock_timeout = '200ms'; SET deadlock_timeout = '20ms'"));
        let pid = pid(&mut conn);
        (conn, pid)
    };
    let (mut conn, mut pid) = connect();
    while !world.is_over.load(Ordering::SeqCst) {
        let ran = transaction(world, session, &mut conn, pid, &mut dice);
        if ran.is_err() && conn.batch_execute("ROLLBACK").is_err() {
            World::note(&world.terminated, (pid, Instant::now()));
            (conn, pid) = connect();
        }
        // An event reports the same outcome for one session once: the next answer is for a new one.
        if world.told_to_commit.load(Ordering::SeqCst) == pid {
            (conn, pid) = connect();
        }
        if session != HOT {
            thread::sleep(dice.millis(0, 20));
        }
    }
}

/// What happens between the decision to signal a session and the signal.
#[derive(Clone, Copy)]
enum Twist {
    None,
    Commit,
    /// The session begins to wait, and is seen waiting.
    Wait,
}

/// Decides at random what happens before a signal, and brings it about.
struct Fate {
    world: Arc<World>,
    dice: Mutex<Dice>,
    observer: Mutex<PgConnection>,
}

impl Fate {
    fn twist(&self, is_hot: bool) -> Twist {
        // One in two of the signals to the hot session finds it as it was.
        if is_hot && self.dice.lock().unwrap().below(2) == 0 {
            return Twist::None;
        }
        match self.dice.lock().unwrap().below(16) {
            0..=1 => Twist::None,
            2 => Twist::Wait,
            _ => Twist::Commit,
        }
    }

    /// Returns the decision to terminate the session.
    fn decide(&self, row: &BlockedPgLock) -> Decision {
        let (pid, mut seen_waiting) = (row.blocking_pid, None);
        let activity = row.blocking_activity.as_ref();
        let name = activity.and_then(|it| it.application_name.as_deref());
        match self.twist(name == Some("hot")) {
            Twist::None => {}
            Twist::Commit => self.world.told_to_commit.store(pid, Ordering::SeqCst),
            Twist::Wait => seen_waiting = self.let_wait(pid),
        }
        let shot = Shot {
            pid,
            decided: Instant::now(),
            seen_waiting,
            answered: None,
            was_sent: false,
        };
        World::note(&self.world.shots, shot);
        Decision::Terminate
    }

    /// Tells the session to wait. Returns the last time at which it was asked whether it does.
    fn let_wait(&self, pid: i32) -> Option<Instant> {
        self.world.told_to_wait.store(pid, Ordering::SeqCst);
        let waits = format!("SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = {pid}");
        let (mut observer, began) = (self.observer.lock().unwrap(), Instant::now());
        loop {
            let asked = Instant::now();
            if count(&mut observer, &waits) > 0 {
                return Some(asked);
            }
            if began.elapsed() > GRACE {
                return None;
            }
        }
    }
}

/// Runs the prioritized session.
fn prioritized(world: &Arc<World>, db: &Database, rounds: usize, seed: u64) -> usize {
    let mut dice = Dice(seed);
    let fate = Fate {
        world: Arc::clone(world),
        dice: Mutex::new(Dice(seed + 7)),
        observer: Mutex::new(db.connect()),
    };
    let policy = Policy::custom(move |row, _| fate.decide(row));
    let answering = Arc::clone(world);
    let prioritizer = Prioritizer::new(db.url.clone())
        .interval(INTERVAL)
        .grace(GRACE)
        .policy(policy)
        .spare(|it| it.application_name.as_deref() == Some("spared"))
        .on_event(move |event| {
            if let PrioritizerEvent::Signalled { signal, .. } = event {
                let mut shots = answering.shots.lock().unwrap();
                let shot = shots.iter_mut().rfind(|it| it.pid == signal.pid).unwrap();
                shot.answered = Some(Instant::now());
                shot.was_sent = signal.outcome == SignalOutcome::Sent;
            }
        });
    let mut conn = db.running("SET lock_timeout = '5s'");
    let own = pid(&mut conn);
    conn.prioritize(&prioritizer, |conn| {
        for round in 0..rounds {
            if round % 10 == 0 {
                for _ in 0..HEAT {
                    lock_briefly(world, conn, own, HOT_ROW, &mut dice)?;
                }
            }
            let object = dice.below(9);
            lock_briefly(world, conn, own, object, &mut dice)?;
            thread::sleep(dice.millis(0, 4));
        }
        QueryResult::Ok(())
    })
    .unwrap();
    let report = prioritizer.report();
    assert!(report.errors.is_empty(), "{report}");
    let is_spared = |it: &Blocker| it.protection == Some(Protection::Chosen);
    for spared in report.blockers.iter().filter(|it| is_spared(it)) {
        assert!(!spared.is_victim(), "{spared}");
    }
    report.blockers.len()
}

/// The number of updates of the hot row, one after the other, in a tenth of the rounds.
const HEAT: usize = 15;

/// Locks an object in a transaction of the prioritized session.
fn lock_briefly(
    world: &World,
    conn: &mut PgConnection,
    pid: i32,
    object: u64,
    dice: &mut Dice,
) -> QueryResult<()> {
    let sql = lock(object, dice);
    conn.batch_execute("BEGIN")?;
    let locked = request(world, SESSIONS, conn, pid, object, &sql);
    conn.batch_execute("COMMIT")?;
    if let Ok(index) = locked {
        world.requests.lock().unwrap()[index].ended = Some(Instant::now());
    }
    Ok(())
}

/// Returns what refutes a signal; `None` if the model has nothing against it.
fn refute(requests: &[Request], shot: &Shot) -> Option<&'static str> {
    let answered = shot.answered?;
    let in_window =
        |it: &&Request| it.sent <= answered && it.ended.is_none_or(|end| end >= shot.decided);
    let of_victim: Vec<_> = requests.iter().filter(|it| it.pid == shot.pid).collect();
    let ours = requests
        .iter()
        .rfind(|it| it.session == SESSIONS && it.sent <= shot.decided);
    let Some(ours) = ours.filter(in_window) else {
        return Some("the prioritized session did not wait");
    };
    let present: Vec<_> = requests.iter().filter(in_window).collect();
    let mut of_victim_pending = of_victim.iter();
    let awaited = of_victim_pending.find(|it| it.sent < shot.decided && it.is_pending(answered));
    if let Some(awaited) = awaited {
        // A session has one request at a time, so it was this one that was seen waiting. No
        // deadlock leads through the lock that is kept.
        let is_seen = shot.seen_waiting.is_some_and(|seen| awaited.sent < seen);
        if is_seen && awaited.object == KEPT {
            return Some("the session was seen waiting");
        }
        // Only a deadlock with the prioritized session justifies it.
        let is_certain = awaited.sent + CERTAIN < shot.decided;
        let is_deadlock = reaches(&present, awaited, ours.pid) && reaches(&present, ours, shot.pid);
        return (is_certain && !is_deadlock).then_some("the session waited itself");
    }
    if answered - ours.sent < GRACE {
        return Some("the prioritized session had not waited for the grace period");
    }
    if !was_held_since(&of_victim, answered - GRACE, shot.decided) {
        return Some("the session had not blocked for the grace period");
    }
    if !reaches(&present, ours, shot.pid) {
        return Some("the session was not on a path from the prioritized session");
    }
    None
}

/// Returns whether requests or locks of the session cover the time, but for gaps.
fn was_held_since(requests: &[&Request], from: Instant, to: Instant) -> bool {
    let mut covered = from;
    for request in requests {
        let end = request.ended.unwrap_or(to);
        if request.sent <= covered + GAP && end > covered {
            covered = end;
        }
    }
    covered + GAP >= to
}

/// Returns whether a chain of sessions that share objects leads to the session of `pid`.
fn reaches(present: &[&Request], ours: &Request, pid: i32) -> bool {
    let (mut objects, mut known) = (BTreeSet::from([ours.object]), 0);
    while objects.len() > known {
        known = objects.len();
        let sharing = present.iter().filter(|it| objects.contains(&it.object));
        let pids: BTreeSet<i32> = sharing.map(|it| it.pid).collect();
        if pids.contains(&pid) {
            return true;
        }
        let theirs = present.iter().filter(|it| pids.contains(&it.pid));
        objects.extend(theirs.map(|it| it.object));
    }
    false
}

#[test]
fn no_signal_is_refuted_in_a_world_at_random() {
    let from_env = |name: &str| std::env::var(name).ok().and_then(|it| it.parse().ok());
    let rounds = from_env("PGLOCK_WORLD_ROUNDS").unwrap_or(200);
    let seed = from_env("PGLOCK_SEED").unwrap_or(20_261_125);
    let server = Sandbox::builder().setting("max_prepared_transactions", "20");
    let server = server.start().unwrap();
    let db = Database::on(&server);
    db.running(
        "CREATE TABLE world_1 (); CREATE TABLE world_2 (); CREATE TABLE world_3 ();
         CREATE TABLE cells (id int, n int); INSERT INTO cells VALUES (1, 0), (2, 0), (3, 0), (4, 0)",
    );
    let _keeper = db.running(&format!(
        "SET application_name = 'spared'; BEGIN; SELECT pg_advisory_xact_lock({KEPT})"
    ));
    let world = Arc::new(World {
        requests: Mutex::default(),
        shots: Mutex::default(),
        commits: Mutex::default(),
        terminated: Mutex::default(),
        told_to_commit: AtomicI32::new(0),
        told_to_wait: AtomicI32::new(0),
        is_over: AtomicBool::new(false),
        prepared: AtomicUsize::new(0),
    });
    thread::scope(|scope| {
        for session in 0..SESSIONS {
            let (world, db) = (&world, &db);
            scope.spawn(move || live(world, db, session, u64::try_from(seed).unwrap()));
        }
        let blockers = prioritized(&world, &db, rounds, u64::try_from(seed).unwrap());
        world.is_over.store(true, Ordering::SeqCst);
        assert!(blockers > 0);
    });
    judge(&world, rounds, seed);
}

fn judge(world: &World, rounds: usize, seed: usize) {
    let requests = world.requests.lock().unwrap();
    let shots = world.shots.lock().unwrap();
    let sent: Vec<_> = shots.iter().filter(|it| it.was_sent).collect();
    let refuted: Vec<_> = sent
        .iter()
        .filter_map(|shot| refute(&requests, shot).map(|why| (shot.pid, why)))
        .collect();
    let is_in_window = |at: &&Instant| {
        shots
            .iter()
            .any(|it| it.decided <= **at && it.answered.is_some_and(|end| **at <= end))
    };
    let commits = world.commits.lock().unwrap();
    let in_windows = commits.iter().filter(is_in_window).count();
    let terminated = world.terminated.lock().unwrap();
    let without_signal: Vec<_> = terminated
        .iter()
        .filter(|(pid, _)| !shots.iter().any(|it| it.pid == *pid))
        .collect();
    let _ = writeln!(
        std::io::stderr(),
        "world, seed {seed}: {rounds} rounds, {} requests, {} decisions, {} signals, {in_windows} commits \
         between a decision and its answer, {} refuted",
        requests.len(),
        shots.len(),
        sent.len(),
        refuted.len(),
    );
    assert!(refuted.is_empty(), "{refuted:?}");
    assert!(without_signal.is_empty(), "{without_signal:?}");
    assert!(sent.len() * 50 >= rounds, "there were signals");
    // Fewer would prove little; a short run is there to keep the test itself alive.
    assert!(rounds < 2_000 || in_windows >= 200, "there were commits");
}
