//! Runs a blocked migration: the watcher terminates the session that blocks it.
//!
//! `cargo xtask demo` runs this program on a throwaway server, or on the server of
//! `DATABASE_URL`, in a database of its own.

#![allow(clippy::print_stdout, clippy::print_stderr)] // prints its progress

use std::error::Error;
use std::iter::successors;
use std::process::ExitCode;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use diesel_pglock::prelude::*;
use diesel_pglock::schema::signal_log;
use diesel_pglock::{
    HarnessReport, LockType, MIGRATIONS, MigrationEvent, PgLock, PrioritizedHarness, Prioritizer,
    PrioritizerEvent, WaitGraph,
};
use pglock_sandbox::{Sandbox, with_database};

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// The application's migrations: a table rewrite, and an index built concurrently.
const SHOP: EmbeddedMigrations = embed_migrations!("examples/shop");

/// The time limit for each step.
const LIMIT: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let Err(error) = run() else {
        return ExitCode::SUCCESS;
    };
    eprintln!("the demo failed: {error}");
    for cause in successors(error.source(), |error| (*error).source()) {
        eprintln!("  because: {cause}");
    }
    ExitCode::FAILURE
}

fn run() -> Result<()> {
    let server = Server::start()?;
    let result = demo(&server.database);
    let cleaned_up = server.clean_up();
    result.and(cleaned_up)
}

fn demo(url: &str) -> Result<()> {
    let started = Instant::now();
    let mut observer = connect(url)?;
    set_up(&mut observer)?;

    // A session forgot to end its transaction, and another session waits for it.
    let mut idler = session(url, "forgotten console")?;
    idler.batch_execute("BEGIN; UPDATE orders SET state = 'packed' WHERE id = 1")?;
    let mut worker = session(url, "innocent worker")?;
    let worker = thread::spawn(move || {
        worker.batch_execute("UPDATE orders SET state = 'sent' WHERE id = 1")
    });

    // Two instances of the application start, and both migrate.
    let (waits, waiting) = channel();
    let instances = [1, 2].map(|number| {
        let (url, waits) = (url.to_owned(), waits.clone());
        thread::spawn(move || migrate_as(number, &url, waits))
    });
    waiting
        .recv_timeout(LIMIT)
        .map_err(|_| "no instance waited for the other")?;
    show_what_waits(&mut observer)?;

    let reports = instances.map(|instance| instance.join().expect("no panic"));
    worker
        .join()
        .expect("no panic")
        .map_err(|_| "the innocent worker was terminated")?;
    let [first, second] = reports;
    show_reports(&[first?, second?])?;
    show_signal_log(&mut observer)?;
    show_what_is_left(&mut observer)?;
    heading(&format!("Done in {:.1} s", started.elapsed().as_secs_f64()));
    Ok(())
}

fn set_up(conn: &mut PgConnection) -> Result<()> {
    heading("A table with 20,000 orders, and the signal log");
    conn.run_pending_migrations(MIGRATIONS)?;
    conn.batch_execute(
        "CREATE TABLE orders (id integer PRIMARY KEY, customer integer NOT NULL, state text NOT NULL);
         INSERT INTO orders SELECT n, n % 500, 'new' FROM generate_series(1, 20000) AS n",
    )?;
    Ok(())
}

/// Runs the migrations as one instance, and prints the events.
fn migrate_as(number: u32, url: &str, waits: Sender<()>) -> Result<HarnessReport> {
    let mut conn = session(url, &format!("instance {number}"))?;
    let prioritizer = Prioritizer::new(url.to_owned()).audit(true);
    let mut harness = PrioritizedHarness::new(&mut conn, prioritizer).on_event(move |event| {
        println!("  instance {number}: {}", describe(event));
        if let MigrationEvent::WaitingForInstance(_) = event {
            let _ = waits.send(());
        }
    });
    let ran = harness.run_pending_migrations(SHOP)?.len();
    if ran == 0 {
        println!("  instance {number}: nothing to do");
    }
    Ok(harness.report())
}

fn describe(event: &MigrationEvent) -> String {
    match event {
        MigrationEvent::WaitingForInstance(_) => "waits for the other instance".into(),
        MigrationEvent::Running { name, .. } => format!("runs {name}"),
        MigrationEvent::Prioritizer(PrioritizerEvent::Blocked(blocker)) => {
            format!("is blocked by {blocker}")
        }
        MigrationEvent::Prioritizer(PrioritizerEvent::Signalled { blocker, .. }) => {
            format!("signals {blocker}")
        }
        MigrationEvent::Retrying { name, after, .. } => format!("tries {name} again in {after:?}"),
        MigrationEvent::Finished(report) => report.to_string(),
        other => format!("{other:?}"),
    }
}

fn show_what_waits(conn: &mut PgConnection) -> Result<()> {
    // The instance with the migration lock waits to rewrite the table, behind the two sessions.
    let mut locks = Vec::new();
    until("a migration waits", || {
        locks = PgLock::query()
            .waiting()
            .current_database()
            .load::<PgLock>(conn)?;
        Ok(locks
            .iter()
            .any(|lock| lock.lock_type == LockType::Relation))
    })?;
    heading("Awaited locks");
    for lock in locks {
        let on = lock
            .relation
            .map_or_else(|| lock.lock_type.to_string(), |r| r.to_string());
        println!(
            "  pid {} waits for {} on {on}",
            lock.pid.unwrap_or_default(),
            lock.mode
        );
    }
    heading("Waiters and blockers");
    print!("{}", WaitGraph::load(conn)?);
    heading("Events of the instances");
    Ok(())
}

fn show_reports(reports: &[HarnessReport]) -> Result<()> {
    heading("Migrations");
    let migrations: Vec<_> = reports
        .iter()
        .flat_map(|report| &report.migrations)
        .collect();
    for migration in &migrations {
        println!("  {migration}");
        for lock in &migration.locks {
            println!("    locked {} in {} mode", lock.relation, lock.mode);
        }
        for victim in migration.victims() {
            println!("    signalled {victim}");
        }
    }
    check(migrations.len() == 2, "each migration ran once")?;
    let idle = reports
        .iter()
        .filter(|report| report.migrations.is_empty())
        .count();
    check(idle == 1, "the other instance found nothing to do")?;
    let victims = migrations
        .iter()
        .map(|m| m.victims().count())
        .sum::<usize>();
    check(victims == 1, "one session was terminated")
}

fn show_signal_log(conn: &mut PgConnection) -> Result<()> {
    heading("The signal log");
    type Entry = (
        String,
        i32,
        Option<String>,
        Option<String>,
        f64,
        Vec<String>,
    );
    let entries = signal_log::table
        .select((
            signal_log::kind,
            signal_log::pid,
            signal_log::application_name,
            signal_log::query,
            signal_log::blocked_seconds,
            signal_log::held,
        ))
        .load::<Entry>(conn)?;
    for (kind, pid, application, query, seconds, held) in &entries {
        println!(
            "  {kind} pid {pid} ({}) after {seconds:.1} s",
            application.as_deref().unwrap_or("?")
        );
        println!("    last query: {}", query.as_deref().unwrap_or("?"));
        println!("    held: {}", held.join(", "));
    }
    check(entries.len() == 1, "the signal was recorded")
}

fn show_what_is_left(conn: &mut PgConnection) -> Result<()> {
    heading("Remaining locks");
    let own_pid = conn.backend_pid()?;
    let mut left = Vec::new();
    until("no lock is left", || {
        use diesel_pglock::schema::pg_locks;
        left = PgLock::query()
            .current_database()
            .filter(pg_locks::pid.ne(own_pid))
            .load::<PgLock>(conn)?;
        Ok(left.is_empty())
    })?;
    let valid = "SELECT 1 / count(*) FROM pg_index WHERE indexrelid = 'orders_customer'::regclass AND indisvalid";
    conn.batch_execute(valid)
        .map_err(|_| "the index is not valid")?;
    println!("  none");
    Ok(())
}

fn heading(text: &str) {
    println!("\n{text}");
}

fn check(holds: bool, what: &str) -> Result<()> {
    if !holds {
        return Err(format!("this did not happen: {what}").into());
    }
    println!("  ✓ {what}");
    Ok(())
}

fn until(what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let started = Instant::now();
    while !condition()? {
        if started.elapsed() > LIMIT {
            return Err(format!("this did not happen: {what}").into());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn connect(url: &str) -> Result<PgConnection> {
    Ok(PgConnection::establish(url)?)
}

fn session(url: &str, name: &str) -> Result<PgConnection> {
    let mut conn = connect(url)?;
    conn.batch_execute(&format!("SET application_name = '{name}'"))?;
    Ok(conn)
}

/// A database for the demo, on a throwaway server or that of `DATABASE_URL`.
struct Server {
    admin: PgConnection,
    name: String,
    database: String,
    _sandbox: Option<Sandbox>,
}

impl Server {
    fn start() -> Result<Self> {
        let name = format!("pglock_demo_{}", std::process::id());
        let url = std::env::var("DATABASE_URL").ok();
        let (url, sandbox) = match url.filter(|url| !url.is_empty()) {
            Some(url) => (url, None),
            None => {
                let sandbox = Sandbox::start()?;
                (sandbox.url(), Some(sandbox))
            }
        };
        let database =
            with_database(&url, &name).ok_or("`DATABASE_URL` is not a postgres:// URL")?;
        let mut admin =
            connect(&url).map_err(|error| format!("no connection to the server: {error}"))?;
        admin
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .map_err(|error| format!("the database of the demo could not be created: {error}"))?;
        Ok(Self {
            admin,
            name,
            database,
            _sandbox: sandbox,
        })
    }

    fn clean_up(mut self) -> Result<()> {
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        Ok(self.admin.batch_execute(&drop)?)
    }
}
