//! Advisory locks on async connections.

use std::time::Instant;

use diesel::sql_types::BigInt;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use diesel_pglock::prelude::*;
use sqlx::postgres::{PgAdvisoryLock, PgAdvisoryLockKey};
use tokio::runtime::Runtime;
use tokio_postgres::NoTls;

use crate::Result;
use crate::bench::{Bench, runtime};
use crate::check;
use crate::contest::Contest;
use crate::peer::Peer;
use crate::row::Row;
use crate::work::Work;

pub const WORK: Work = Work {
    name: "advisory-async",
    summary: "an advisory lock, acquired and released by async code",
    has_free_targets: false,
    run,
};

const KEY: i64 = 9;

diesel::define_sql_function! { fn pg_advisory_lock(key: BigInt) -> Nullable<Text>; }
diesel::define_sql_function! { fn pg_advisory_unlock(key: BigInt) -> Bool; }

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let calls = bench.pick(2_000, 1_000);
    let runtime = &runtime()?;
    let mut conn = runtime.block_on(AsyncPgConnection::establish(&bench.url))?;
    let ours = || {
        runtime.block_on(per_call(calls, async || {
            acquire_and_release(&mut conn).await
        }))
    };
    let mut contest = Contest::new("advisory lock, async", ours);
    contest.add(
        diesel_async(bench, runtime, calls)?
            .at_least(0.97)
            .known_gap(0.957),
    );
    contest.add(tokio_postgres(bench, runtime, calls)?);
    contest.add(sqlx(bench, runtime, calls)?);
    Ok(contest.run(bench.rounds())?.into_rows())
}

async fn acquire_and_release(conn: &mut AsyncPgConnection) -> Result<()> {
    let ran = conn
        .advisory(KEY)
        .run(async |_| diesel_pglock::Result::<_>::Ok(()));
    Ok(ran.await?)
}

fn diesel_async<'a>(bench: &Bench, runtime: &'a Runtime, calls: usize) -> Result<Peer<'a>> {
    let mut conn = runtime.block_on(AsyncPgConnection::establish(&bench.url))?;
    let mut lock = async move || {
        diesel::select(pg_advisory_lock(KEY))
            .execute(&mut conn)
            .await?;
        let unlock = diesel::select(pg_advisory_unlock(KEY));
        is_held(unlock.get_result(&mut conn).await?)
    };
    let sample = move || runtime.block_on(per_call(calls, &mut lock));
    Ok(Peer::speed("diesel-async, typed query", sample))
}

fn tokio_postgres<'a>(bench: &Bench, runtime: &'a Runtime, calls: usize) -> Result<Peer<'a>> {
    let connected = runtime.block_on(tokio_postgres::connect(&bench.url, NoTls));
    let (client, connection) = connected?;
    runtime.spawn(connection);
    let lock = runtime.block_on(client.prepare("SELECT pg_advisory_lock($1)"))?;
    let unlock = runtime.block_on(client.prepare("SELECT pg_advisory_unlock($1)"))?;
    let lock = async move || {
        client.query_one(&lock, &[&KEY]).await?;
        is_held(client.query_one(&unlock, &[&KEY]).await?.try_get(0)?)
    };
    let sample = move || runtime.block_on(per_call(calls, &lock));
    Ok(Peer::speed("tokio-postgres, prepared", sample))
}

fn sqlx<'a>(bench: &Bench, runtime: &'a Runtime, calls: usize) -> Result<Peer<'a>> {
    let connected = <sqlx::PgConnection as sqlx::Connection>::connect(&bench.url);
    let mut conn = runtime.block_on(connected)?;
    let lock = PgAdvisoryLock::with_key(PgAdvisoryLockKey::BigInt(KEY));
    let mut lock = async move || {
        let guard = lock.acquire(&mut conn).await?;
        guard.release_now().await?;
        Ok(())
    };
    let sample = move || runtime.block_on(per_call(calls, &mut lock));
    Ok(Peer::speed("sqlx, `PgAdvisoryLock`", sample))
}

/// Returns the seconds of one call, as the mean of several.
async fn per_call(calls: usize, mut call: impl AsyncFnMut() -> Result<()>) -> Result<f64> {
    let started = Instant::now();
    for _ in 0..calls {
        call().await?;
    }
    Ok(started.elapsed().as_secs_f64() / calls as f64)
}

fn is_held(was_held: bool) -> Result<()> {
    check(was_held, || "the lock was not held".to_owned())
}
