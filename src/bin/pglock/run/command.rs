//! The arguments of `pglock run`, and the lock.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use diesel::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::Text;
use diesel_pglock::prelude::*;
use diesel_pglock::{AdvisoryKey, Error, Held, LockMonitor};

use super::child::{self, LOST};
use crate::connect::{ConnectionArgs, Database, Environment, Settings, refuse_pooler};
use crate::duration::parse_duration;
use crate::failure::{Failure, Outcome};
use crate::list::advisory_key;
use crate::output::print_error;
use diesel_pglock::internal::with_sources;

/// Runs a command while an advisory lock is held, so that it does not overlap with itself
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct RunArgs {
    /// The lock: a name, a number, or a pair such as `1,2`
    #[arg(value_name = "LOCK", value_parser = lock)]
    lock: AdvisoryKey,
    /// Shares the lock with other commands that share it
    #[arg(long)]
    shared: bool,
    /// Waits no longer than this for the lock; default: without limit
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    wait: Option<Duration>,
    /// Does not wait: runs nothing if the lock is busy
    #[arg(long, conflicts_with = "wait")]
    skip: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

const EXIT_CODES: &str = "\
Exit codes: that of the command; 128 + N if signal N ended it; 123 the lock was lost, 124 the lock \
was busy and nothing was run, 125 `pglock` failed before the command started, 126 the command \
cannot be run, 127 it was not found.

The command gets SIGTERM when the lock is lost, and the variable PGLOCK_TOKEN: a number that is \
higher in each run, with which a table can refuse late writes.";

/// The lock is busy, and the command was not run.
const BUSY: u8 = 124;

const REFUSAL: &str = "a pooler in transaction mode is between `pglock` and the server; there the \
    lock would stay in the session of another client; connect to the server directly";

fn lock(text: &str) -> Result<AdvisoryKey, &'static str> {
    match text {
        "" => Err("the name is empty"),
        text => Ok(advisory_key(text)),
    }
}

/// Runs the command under the lock. Failures have a code of their own, below which those of the
/// command lie.
pub fn run(
    args: &RunArgs,
    connect: &ConnectionArgs,
    environment: &Environment,
) -> Result<Outcome, Failure> {
    let code = run_locked(args, connect, environment);
    let code = code.map_err(|failure| Failure::NotRun(failure.to_string()))?;
    Ok(Outcome::Exit(code))
}

fn run_locked(
    args: &RunArgs,
    connect: &ConnectionArgs,
    environment: &Environment,
) -> Result<u8, Failure> {
    let database = connect.database(&Settings::find()?, environment)?;
    let mut conn = database.connect()?;
    refuse_pooler(&mut conn, &database, REFUSAL)?;
    set_name(&mut conn, args.lock)?;
    let mut started = false;
    let ran = hold(args, &mut conn, &database, |held| {
        started = true;
        child::run(&args.command, held)
    });
    match ran {
        Ok(Some(code)) => Ok(code),
        Ok(None) => {
            let lock = args.lock;
            print_error(&format!("skipped: another session holds the lock `{lock}`"));
            Ok(BUSY)
        }
        Err(error) if started => {
            print_error(&format!(
                "the lock was lost before the command ended: {}",
                with_sources(&error)
            ));
            Ok(LOST)
        }
        Err(error) if error.is_not_acquired() => {
            print_error(&error.to_string());
            Ok(BUSY)
        }
        Err(error) => Err(error.into()),
    }
}

/// Shows in the session's name which lock it is for, unless a name was chosen.
fn set_name(conn: &mut PgConnection, lock: AdvisoryKey) -> Result<(), Failure> {
    let name = "SELECT pg_catalog.set_config('application_name', $1, false) \
        WHERE pg_catalog.current_setting('application_name') OPERATOR(pg_catalog.=) 'pglock'";
    let name = diesel::sql_query(name).bind::<Text, _>(format!("pglock run {lock}"));
    name.execute(conn)?;
    Ok(())
}

/// Holds the lock meanwhile; `None` if it is busy, and the command should not wait.
fn hold(
    args: &RunArgs,
    conn: &mut PgConnection,
    database: &Database,
    f: impl FnOnce(&Held) -> u8,
) -> Result<Option<u8>, Error> {
    let monitor = LockMonitor::new(database.source());
    let lock = conn.advisory(args.lock);
    let lock = if args.shared { lock.shared() } else { lock };
    let lock = match args.wait {
        Some(limit) => lock.timeout(limit),
        None => lock,
    };
    let lock = lock.monitored(&monitor);
    if args.skip {
        lock.try_run(|_, held| Ok(f(held)))
    } else {
        lock.run(|_, held| Ok(Some(f(held))))
    }
}
