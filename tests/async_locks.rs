//! The async front end, on a plain connection and inside `tokio::spawn`.

use std::time::Duration;

use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use diesel_pglock::prelude::*;
use diesel_pglock::{Error, TableLockMode::*};

use crate::support::*;

#[tokio::test]
async fn a_spawned_task_can_hold_every_kind_of_lock() {
    let db = Database::new();
    let mut conn = AsyncPgConnection::establish(&db.url).await.unwrap();
    let task = tokio::spawn(async move {
        conn.advisory(1)
            .run(async |conn| {
                conn.with_lock_timeout(Duration::from_secs(1), async |conn| {
                    conn.lock_table::<users::table>(Share)
                        .run(async |conn| {
                            conn.advisory(2).xact().acquire().await?;
                            conn.batch_execute("SELECT 1").await
                        })
                        .await
                })
                .await
            })
            .await?;
        Ok::<_, Error>(conn.backend_pid().await? > 0)
    });
    assert!(task.await.unwrap().unwrap());
}
