//! The sessions that keep an advisory lock from being acquired.

use diesel::prelude::*;

use super::statement::AdvisoryTarget;
use crate::error::Result;
use crate::session::{ColumnsOf, Driver};
use crate::tables::pg_locks;
use crate::views::PgLock;
use crate::views::{IsAdvisory, own_pid};

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
    let locks = driver.load_in_savepoint::<_, ColumnsOf<PgLock>, PgLock>(locks);
    // An error here must not replace "not acquired".
    Ok(locks.await?.unwrap_or_default())
}
