//! `pglock who`: asks before a lock does.

use clap::Args;
use diesel::PgConnection;
use diesel::prelude::*;
use diesel_pglock::prelude::*;
use diesel_pglock::schema::{pg_class, pg_locks};
use diesel_pglock::{LockMode, LockType, PgLock, TableLockMode};
use serde::Serialize;

use crate::connection::{ConnectionArgs, Environment};
use crate::failure::{Failure, Outcome};
use crate::json::show_json;
use crate::output::{Colour, Screen, note, show};
use crate::relation;
use crate::selection::prepared_names;
use crate::settings::Settings;
use crate::table::Table;
use crate::terminal_text::clean;
use diesel_pglock::internal::format_duration;

/// The lock that somebody means to take.
#[derive(Args, Clone, Debug)]
pub struct WhoArgs {
    /// The table, by schema and name or along the search_path
    #[arg(value_name = "TABLE")]
    table: String,
    /// The mode, such as `ShareLock` or `"ROW EXCLUSIVE"`
    #[arg(value_name = "MODE", default_value = "ACCESS EXCLUSIVE")]
    mode: TableLockMode,
    /// Leaves out partitions and tables that inherit, which a lock on the table takes too
    #[arg(long)]
    only: bool,
    /// Shows JSON
    #[arg(long)]
    json: bool,
}

/// A lock in the way.
#[derive(Debug, Serialize)]
struct InTheWay {
    lock: PgLock,
    /// The name of a prepared transaction.
    prepared: Option<String>,
}

pub fn run(
    args: &WhoArgs,
    connect: &ConnectionArgs,
    environment: &Environment,
) -> Result<Outcome, Failure> {
    let settings = Settings::find()?;
    let mut conn = connect.database(&settings, environment)?.connect()?;
    let found = in_the_way(&mut conn, args)?;
    if args.json {
        show_json(&found)?;
    } else if !found.is_empty() {
        show(&table(&found).render(&Screen::of_stdout()))?;
    }
    if !found.is_empty() {
        return Ok(Outcome::Done);
    }
    if !args.json {
        let (mode, table) = (args.mode, clean(&args.table));
        note(&format!("nobody is in the way of {mode} on {table}\n"))?;
    }
    Ok(Outcome::Nothing)
}

/// Those who hold a mode that conflicts, and those who wait for one: they come first.
fn in_the_way(conn: &mut PgConnection, args: &WhoArgs) -> Result<Vec<InTheWay>, Failure> {
    let oid = relation::find(conn, &args.table)?;
    let own = conn.backend_pid()?;
    let relations = match args.only {
        true => vec![oid],
        false => relation::with_descendants(conn, oid)?,
    };
    let mut locks: Vec<PgLock> = PgLock::query()
        .filter(pg_class::oid.eq_any(relations))
        .filter(pg_locks::pid.is_distinct_from(own))
        .lock_type(LockType::Relation)
        .order_by((pg_locks::granted.desc(), pg_locks::pid))
        .load(conn)?;
    let wanted = LockMode::from(args.mode);
    locks.retain(|lock| lock.mode.conflicts_with(&wanted));
    let names = match locks.iter().all(|lock| lock.pid.is_some()) {
        true => Default::default(),
        false => prepared_names(conn)?,
    };
    let name = |lock: PgLock| {
        let gid = names.get(&lock.virtual_transaction);
        let prepared = gid.filter(|_| lock.pid.is_none()).cloned();
        InTheWay { lock, prepared }
    };
    Ok(locks.into_iter().map(name).collect())
}

fn table(found: &[InTheWay]) -> Table {
    let titles = [
        "PID",
        "MODE",
        "",
        "TABLE",
        "APPLICATION",
        "STATE",
        "TRANSACTION",
        "QUERY",
    ];
    let row = |it: &InTheWay| {
        let (lock, activity) = (&it.lock, it.lock.activity.as_ref());
        let pid = match (lock.pid, &it.prepared) {
            (Some(pid), _) => pid.to_string(),
            (None, Some(gid)) => format!("prepared {}", clean(gid)),
            (None, None) => "prepared".to_owned(),
        };
        let relation = lock.relation.as_ref().map(ToString::to_string);
        let application = activity.and_then(|it| it.application_name.clone());
        let state = activity
            .and_then(|it| it.state.as_ref())
            .map(ToString::to_string);
        let open = activity
            .and_then(|it| it.transaction_duration)
            .map(format_duration);
        let query = activity.and_then(|it| it.query.clone());
        let texts = [relation, application, state, open, query];
        let texts = texts.map(|text| clean(&text.unwrap_or_default()));
        let stands = if lock.granted { "held" } else { "awaited" };
        let cells = [pid, lock.mode.to_string(), stands.to_owned()];
        (Colour::Plain, cells.into_iter().chain(texts).collect())
    };
    Table {
        titles: titles.map(str::to_owned).to_vec(),
        rows: found.iter().map(row).collect(),
    }
}
