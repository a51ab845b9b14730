//! The closures' errors: any type that takes this crate's.

use std::error::Error as StdError;

use diesel_pglock::{Error, TableLockMode::Share};

use super::*;
use crate::support::users;

#[derive(Debug, thiserror::Error)]
enum Own {
    #[error("the job is busy")]
    Busy(#[source] Error),
    #[error("the job failed")]
    Failed(#[source] Error),
}

impl From<Error> for Own {
    fn from(error: Error) -> Self {
        match error.is_not_acquired() {
            true => Self::Busy(error),
            false => Self::Failed(error),
        }
    }
}

scenario!(an_error_type_of_the_caller_can_recognise_a_refusal, |db| {
    let (mut a, mut b) = (wait!(connect(&db.url)), wait!(connect(&db.url)));
    let ran = wait!(a.advisory("job").run(closure!(|a| {
        let refused = wait!(
            b.advisory("job")
                .nowait()
                .run(closure!(|_| Ok::<_, Own>(())))
        );
        assert!(matches!(refused, Err(Own::Busy(_))), "{refused:?}");
        wait!(a.lock_table::<users::table>(Share).acquire())?;
        Ok::<_, Own>(())
    })));
    assert!(
        matches!(&ran, Err(Own::Failed(Error::NotInTransaction))),
        "{ran:?}"
    );
});

scenario!(a_query_result_carries_a_refusal_and_gives_it_back, |db| {
    let mut a = wait!(connect(&db.url));
    let _holder = db.running("SELECT pg_advisory_lock(1)");
    let ran: diesel::QueryResult<()> = wait!(a.with_lock_timeout(
        None,
        closure!(|a| {
            wait!(
                a.advisory(1)
                    .nowait()
                    .run(closure!(|_| diesel::QueryResult::Ok(())))
            )
        })
    ));
    assert!(Error::from(ran.unwrap_err()).is_not_acquired());
});

scenario!(anyhow_and_a_boxed_error_take_it_with_its_source, |db| {
    let mut a = wait!(connect(&db.url));
    let failed = wait!(a.advisory(1).run(closure!(|a| -> anyhow::Result<()> {
        wait!(fail(a))?;
        Ok(())
    })));
    let error = failed.unwrap_err();
    assert!(error.downcast_ref::<Error>().is_some());
    assert!(format!("{error:#}").contains("zero"), "{error:#}");
    let failed = wait!(a.advisory(1).run(closure!(|a| -> Result<
        (),
        Box<dyn StdError + Send + Sync>,
    > {
        wait!(fail(a))?;
        Ok(())
    })));
    assert!(failed.unwrap_err().downcast_ref::<Error>().is_some());
});
