//! Sessions that wait in one queue.

use std::thread::{self, JoinHandle};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::sql_types::BigInt;
use diesel::{PgConnection, RunQueryDsl};
use tokio::task::JoinSet;
use tokio_postgres::NoTls;

use crate::Result;
use crate::bench::{Bench, runtime};

/// A session that holds a table, and sessions that wait for it, each also behind those before.
pub struct Crowd {
    holder: PgConnection,
    waiters: Option<JoinHandle<Result<()>>>,
}

impl Crowd {
    /// Returns the number of blocks: each waiter waits for the holder and those before.
    pub fn blocks(waiters: usize) -> usize {
        waiters * (waiters + 1) / 2
    }

    /// Opens the sessions, and returns once all of them wait.
    pub fn of(bench: &Bench, waiters: usize) -> Result<Self> {
        let mut holder = bench.connect()?;
        holder.batch_execute("CREATE TABLE IF NOT EXISTS crowded (id int)")?;
        holder.batch_execute("BEGIN; LOCK TABLE crowded")?;
        let url = bench.url.clone();
        let mut crowd = Self {
            holder,
            waiters: Some(thread::spawn(move || {
                runtime()?.block_on(wait_together(url, waiters))
            })),
        };
        crowd.await_waiters(waiters)?;
        Ok(crowd)
    }

    fn await_waiters(&mut self, waiters: usize) -> Result<()> {
        while self.waiting()? < waiters as i64 {
            if self.waiters.as_ref().is_some_and(JoinHandle::is_finished) {
                return self.finish();
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn waiting(&mut self) -> Result<i64> {
        let waiting = sql::<BigInt>("SELECT count(*) FROM pg_locks WHERE NOT granted");
        Ok(waiting.get_result(&mut self.holder)?)
    }

    /// Releases the table, and waits until all sessions have had it.
    fn finish(&mut self) -> Result<()> {
        self.holder.batch_execute("COMMIT")?;
        let Some(waiters) = self.waiters.take() else {
            return Ok(());
        };
        waiters.join().map_err(|_| "a waiter panicked")?
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        let _ = self.finish(); // a session that was lost does not wait either
    }
}

async fn wait_together(url: String, waiters: usize) -> Result<()> {
    let mut waits = JoinSet::new();
    for _ in 0..waiters {
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
        tokio::spawn(connection);
        waits.spawn(async move {
            client
                .batch_execute("BEGIN; LOCK TABLE crowded; COMMIT")
                .await
        });
    }
    while let Some(waited) = waits.join_next().await {
        waited??;
    }
    Ok(())
}
