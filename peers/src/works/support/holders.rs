//! Sessions that hold many locks.

use std::ops::Range;

use diesel::PgConnection;
use diesel::connection::SimpleConnection;

use crate::Result;
use crate::bench::Bench;

/// The sessions that hold the locks.
const HOLDERS: usize = 10;

/// The modes in which each holds a table; they do not conflict.
const MODES: [&str; 3] = ["ACCESS SHARE", "ROW SHARE", "ROW EXCLUSIVE"];

/// The query that each holder shows, as long as those of applications often are.
const SHOWN: &str = "SELECT id, status, total FROM orders \
    WHERE customer_id = 4711 ORDER BY created_at DESC LIMIT 50";

const ORDERS: &str = "CREATE TABLE IF NOT EXISTS orders \
    (id int, customer_id int, status text, total int, created_at timestamptz)";

/// Opens sessions that hold so many locks together, half of them on tables.
pub fn hold_locks(bench: &Bench, locks: usize) -> Result<Vec<PgConnection>> {
    let tables = locks / HOLDERS / 2 / MODES.len();
    let mut conn = bench.connect()?;
    conn.batch_execute(ORDERS)?;
    conn.batch_execute(&for_each_table(
        tables,
        "CREATE TABLE IF NOT EXISTS listed_%s (id int)",
    ))?;
    let keys = locks / HOLDERS - MODES.len() * tables;
    (0..HOLDERS)
        .map(|number| holder(bench, tables, number * keys + 1..(number + 1) * keys + 1))
        .collect()
}

fn holder(bench: &Bench, tables: usize, keys: Range<usize>) -> Result<PgConnection> {
    let mut conn = bench.connect()?;
    conn.batch_execute("BEGIN")?;
    for mode in MODES {
        let lock = format!("LOCK TABLE listed_%s IN {mode} MODE");
        conn.batch_execute(&for_each_table(tables, &lock))?;
    }
    let keys = format!("generate_series({}, {}) AS key", keys.start, keys.end - 1);
    conn.batch_execute(&format!("SELECT count(pg_advisory_lock(key)) FROM {keys}"))?;
    conn.batch_execute(SHOWN)?;
    Ok(conn)
}

fn for_each_table(tables: usize, statement: &str) -> String {
    format!(
        "DO $$ BEGIN FOR i IN 1..{tables} LOOP EXECUTE format('{statement}', i); END LOOP; END $$"
    )
}
