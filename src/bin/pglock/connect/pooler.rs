//! Poolers in transaction mode, behind which no session is the command's own.

use std::thread;
use std::time::{Duration, Instant};

use diesel::PgConnection;
use diesel::prelude::*;
use diesel_pglock::PgActivity;
use diesel_pglock::prelude::*;
use diesel_pglock::schema::pg_stat_activity;

use super::connection::Database;
use crate::failure::Failure;

/// The limit for a session that has closed its connection to end.
const END: Duration = Duration::from_secs(1);

/// Fails if the backend of this session changes between transactions; `refusal` says why that
/// does harm.
pub fn refuse_pooler(
    conn: &mut PgConnection,
    database: &Database,
    refusal: &str,
) -> Result<(), Failure> {
    let pid = conn.backend_pid()?;
    let mut other = database.connect()?;
    // While its transaction lasts, this session has a backend for itself.
    let other_pid = other.transaction(|other| {
        let other_pid = other.backend_pid()?;
        let is_pooled = other_pid == pid || conn.backend_pid()? != pid;
        Ok::<_, diesel_pglock::Error>((!is_pooled).then_some(other_pid))
    })?;
    drop(other);
    let other_pid = other_pid.ok_or_else(|| Failure::Usage(refusal.to_owned()))?;
    wait_for_end(conn, other_pid)
}

/// Waits until the session has ended: the role may have a limit of connections.
fn wait_for_end(conn: &mut PgConnection, pid: i32) -> Result<(), Failure> {
    let started = Instant::now();
    let session = || PgActivity::query().filter(pg_stat_activity::pid.eq(pid));
    while started.elapsed() < END && session().count().get_result::<i64>(conn)? > 0 {
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
