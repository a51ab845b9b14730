//! The futures of the async front end are little larger than those of diesel-async.

use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use diesel_pglock::Error;
use diesel_pglock::TableLockMode::Share;
use diesel_pglock::prelude::*;

use crate::support::*;

macro_rules! body {
    () => {
        async |conn| -> Result<(), Error> { Ok(conn.batch_execute("SELECT 1").await?) }
    };
}

fn size<F: Future>(_future: F) -> usize {
    size_of::<F>()
}

#[tokio::test]
async fn a_future_of_run_is_at_most_a_third_larger_than_that_of_a_transaction() {
    let db = Database::new();
    let mut conn = AsyncPgConnection::establish(&db.url).await.unwrap();
    let limit = size(conn.transaction(body!())) * 13 / 10;
    let sizes = [
        ("advisory run", size(conn.advisory(1).run(body!()))),
        ("advisory try_run", size(conn.advisory(1).try_run(body!()))),
        ("xact run", size(conn.advisory(1).xact().run(body!()))),
        ("xact try_run", {
            size(conn.advisory(1).xact().try_run(body!()))
        }),
        ("table run", {
            size(conn.lock_table::<users::table>(Share).run(body!()))
        }),
        ("table try_run", {
            size(conn.lock_table::<users::table>(Share).try_run(body!()))
        }),
    ];
    for (call, size) in sizes {
        assert!(size <= limit, "{call}: {size} bytes, the limit is {limit}");
    }
}
