//! `pglock who`: the locks that conflict with one that is yet to be taken.

use clap::Args;
use diesel::PgConnection;
use diesel_pglock::internal::table_lock_conflicts;
use diesel_pglock::{PgActivity, PgLock, TableLockMode};
use serde::Serialize;

use super::field::Field;
use super::locks::hint;
use super::prepared::Prepared;
use super::relation;
use super::row::Row;
use crate::connect::{ConnectionArgs, Environment, LimitArgs};
use crate::failure::{Failure, Outcome};
use crate::output::clean;
use crate::output::show_json;
use crate::output::{Line, Table};
use crate::output::{Screen, note, show};

/// A table lock that is yet to be taken.
#[derive(Args, Clone, Debug)]
pub struct WhoArgs {
    /// The table, with its schema or found by the search_path
    #[arg(value_name = "TABLE")]
    table: String,
    /// The mode, such as `ShareLock` or `"ROW EXCLUSIVE"`
    #[arg(value_name = "MODE", default_value = "ACCESS EXCLUSIVE")]
    mode: TableLockMode,
    /// Leaves out partitions and inheriting tables, which a lock on the table also takes
    #[arg(long)]
    only: bool,
    /// Shows JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    timeout: LimitArgs,
}

const TITLES: [&str; 8] = [
    "PID",
    "MODE",
    "",
    "TABLE",
    "APPLICATION",
    "STATE",
    "TRANSACTION",
    "QUERY",
];

/// The fields of the last columns.
const FIELDS: [&str; 5] = [
    "relation",
    "activity.application_name",
    "activity.state",
    "activity.transaction_duration",
    "activity.query",
];

/// A conflicting lock as an object of `--json`.
#[derive(Debug, Serialize)]
struct Conflict<'r> {
    lock: &'r PgLock,
    gid: Option<&'r str>,
}

pub fn run(
    args: &WhoArgs,
    connect: &ConnectionArgs,
    environment: &Environment,
) -> Result<Outcome, Failure> {
    let mut conn = connect.connect(environment)?;
    let rows = args
        .timeout
        .within(&mut conn, |conn| conflicts(conn, args))?;
    if args.json {
        show_json(&rows.iter().map(Conflict::new).collect::<Vec<_>>())?;
    } else if rows.is_empty() {
        let (mode, table) = (args.mode, clean(&args.table));
        note(&format!("no lock conflicts with {mode} on {table}\n"))?;
    } else {
        show(&table(&rows).render(&Screen::of_stdout()))?;
        note(hint(&rows))?;
    }
    Ok(Outcome::of_found(rows.len()))
}

/// Loads the conflicting locks: a queued lock would be granted before a new one.
fn conflicts(conn: &mut PgConnection, args: &WhoArgs) -> Result<Vec<Row>, Failure> {
    relation::find(conn, &args.table)?;
    let locks = table_lock_conflicts(conn, &args.table, args.mode, args.only)?;
    let prepared = Prepared::load(conn)?;
    let rows = locks.into_iter().map(|lock| prepared.row(lock));
    Ok(rows.filter(|row| !is_parallel_worker(row)).collect())
}

/// Returns true for a worker of a parallel query: its leader holds the same lock.
fn is_parallel_worker(row: &Row) -> bool {
    let process = row
        .lock
        .activity
        .as_ref()
        .and_then(PgActivity::server_process);
    process == Some("parallel worker")
}

impl<'r> Conflict<'r> {
    fn new(row: &'r Row) -> Self {
        Self {
            lock: &row.lock,
            gid: row.prepared.as_ref().map(|it| &*it.gid),
        }
    }
}

fn table(rows: &[Row]) -> Table {
    let lines = rows.iter().map(|row| Line::plain(cells(row)));
    Table::new(TITLES, lines.collect())
}

fn cells(row: &Row) -> Vec<String> {
    let state = if row.lock.granted { "held" } else { "awaited" };
    let fields = FIELDS.iter().filter_map(|name| Field::named(name).ok());
    [holder(row), row.lock.mode.to_string(), state.to_owned()]
        .into_iter()
        .chain(fields.map(|field| field.cell(row)))
        .collect()
}

fn holder(row: &Row) -> String {
    match (row.lock.pid, &row.prepared) {
        (Some(pid), _) => pid.to_string(),
        (None, Some(prepared)) => format!("prepared {}", clean(&prepared.gid)),
        (None, None) => "prepared".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_column_has_a_field() {
        assert!(FIELDS.iter().all(|name| Field::named(name).is_ok()));
        assert_eq!(TITLES.len(), 3 + FIELDS.len());
    }
}
