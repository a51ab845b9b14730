//! A network between the watcher and its server that fails at any moment.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};

use super::bounded::is_left_behind;
use super::*;

/// The time in which a run returns after its code, and what a machine under load adds.
const RETURNS: Duration = Duration::from_millis(1000 + 500);

/// The moments at which the network fails: before, during and after the signal.
const MOMENTS: u64 = 120_000;

const FAULTS: [Network; 3] = [Network::IsSilent, Network::Closes, Network::Resets];

fn rounds() -> usize {
    let rounds = std::env::var("PGLOCK_FAULT_ROUNDS").ok();
    rounds.and_then(|it| it.parse().ok()).unwrap_or(2)
}

/// One run whose watcher loses its network.
struct Round {
    network: Network,
    moment: Duration,
    /// True if the code lasts until the report shows the fault. A silent network shows none.
    awaits_report: bool,
    prioritizer: Prioritizer<String>,
    has_begun: AtomicBool,
    has_failed: AtomicBool,
}

impl Round {
    fn new(db: &Database, proxy: &Proxy, network: Network, chance: &mut Chance) -> Self {
        let (own, others) = (server().port(), proxy.port);
        let url = server().tcp_url_for(&db.name);
        let url = url.replace(&format!(":{own}/"), &format!(":{others}/"));
        Self {
            network,
            moment: chance.micros(MOMENTS),
            awaits_report: network != Network::IsSilent && chance.once_in(2),
            prioritizer: Prioritizer::new(url).interval(TICK).grace(TICK * 2),
            has_begun: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
        }
    }

    /// Returns whether the code may end.
    fn may_end(&self) -> bool {
        let is_reported = || !self.prioritizer.report().errors.is_empty();
        self.has_failed.load(Ordering::SeqCst) && (!self.awaits_report || is_reported())
    }

    /// Lets the network fail at its moment after the start of the code.
    fn fail(&self, proxy: &Proxy) {
        wait_until("the code runs", || self.has_begun.load(Ordering::SeqCst));
        thread::sleep(self.moment);
        proxy.set(self.network);
        self.has_failed.store(true, Ordering::SeqCst);
    }
}

/// Runs the rounds. `run` returns the moment at which the code of its run has ended.
fn endure(run: impl Fn(&Database, &Round) -> Instant + Sync) {
    let db = Database::new();
    let mut chance = Chance(seed("PGLOCK_SEED"));
    let (mut longest, mut victims) = (Duration::ZERO, 0);
    for network in FAULTS.repeat(rounds()) {
        let (proxy, begun) = (Proxy::to(server().port()), chance.0);
        let round = Round::new(&db, &proxy, network, &mut chance);
        let what = format!("{network:?} after {:?}, PGLOCK_SEED={begun}", round.moment);
        let mut holder = idle_holder(&db);
        let ended = thread::scope(|scope| {
            scope.spawn(|| round.fail(&proxy));
            run(&db, &round)
        });
        let late = ended.elapsed();
        assert!(late < RETURNS, "{what}: returned {late:?} after its code");
        longest = longest.max(late);
        victims += judge(&db, &round, &proxy, &mut holder, &what);
    }
    let count = FAULTS.len() * rounds();
    let line = format!("{count} faults, {victims} victims, returned within {longest:?}");
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Checks the report, and that no session is signalled after the return. Returns the victims.
fn judge(
    db: &Database,
    round: &Round,
    proxy: &Proxy,
    holder: &mut PgConnection,
    what: &str,
) -> usize {
    let (mut observer, report) = (db.connect(), round.prioritizer.report());
    // A signal of before needs a moment to arrive.
    thread::sleep(Duration::from_millis(100));
    let lives = holder.batch_execute("SELECT 1").is_ok();
    if round.network == Network::IsSilent {
        assert!(is_left_behind(&report), "{what}: {report}");
    }
    assert!(!round.awaits_report || !report.errors.is_empty());
    let is_victim = report.victims().next().is_some();
    let is_unknown = report.to_string().contains("is unknown") || !report.errors.is_empty();
    assert!(!is_victim || !lives, "{what}: {report}");
    assert!(is_victim || lives || is_unknown, "{what}: {report}");
    // The requests that the network has kept arrive now.
    proxy.set(Network::Works);
    wait_until("the watchers have gone", || marks(&mut observer) == 0);
    assert_eq!(holder.batch_execute("SELECT 1").is_ok(), lives, "{what}");
    assert_eq!(round.prioritizer.report().errors, report.errors, "{what}");
    usize::from(!lives)
}

const TIMEOUT: &str = "SET lock_timeout = '300ms'";

#[test]
fn a_run_returns_whatever_its_watchers_network_does() {
    endure(|db, round| {
        let mut conn = db.running(TIMEOUT);
        let ran = conn.prioritize(&round.prioritizer, |conn| {
            round.has_begun.store(true, Ordering::SeqCst);
            let _ = alter(conn);
            wait_until("the network has failed", || round.may_end());
            Ok::<_, Error>(Instant::now())
        });
        ran.unwrap()
    });
}

#[test]
fn an_async_run_returns_whatever_its_watchers_network_does() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    endure(|db, round| {
        let ran = runtime.block_on(async {
            let mut conn = AsyncPgConnection::establish(&db.url).await.unwrap();
            let running = conn.prioritize(&round.prioritizer, async |conn| {
                conn.batch_execute(TIMEOUT).await?;
                round.has_begun.store(true, Ordering::SeqCst);
                let alter = "ALTER TABLE users ADD COLUMN IF NOT EXISTS age int";
                let _ = conn.batch_execute(alter).await;
                while !round.may_end() {
                    tokio::time::sleep(TICK).await;
                }
                Ok::<_, Error>(Instant::now())
            });
            running.await
        });
        ran.unwrap()
    });
}
