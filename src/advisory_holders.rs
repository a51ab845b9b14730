//! The sessions that keep an advisory lock from being acquired.

use diesel::prelude::*;

use crate::advisory_statement::AdvisoryTarget;
use crate::driver::{ColumnsOf, Driver};
use crate::predicate::{IsAdvisory, own_pid};
use crate::tables::pg_locks;
use crate::{PgLock, Result};

/// Returns the locks that conflict with an advisory lock, held ones first.
pub(crate) async fn holders(
    driver: &mut impl Driver,
    target: &AdvisoryTarget,
) -> Result<Vec<PgLock>> {
    let locks = PgLock::query()
        .filter(IsAdvisory::from(target.key))
        .filter(pg_locks::mode.eq_any(target.conflicts()))
        .filter(pg_locks::pid.is_distinct_from(own_pid()))
        .order_by(pg_locks::granted.desc());
    let locks = driver.load_aside::<_, ColumnsOf<PgLock>, PgLock>(locks);
    // An error here must not replace "not acquired".
    Ok(locks.await?.unwrap_or_default())
}
