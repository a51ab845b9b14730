//! The mark of a prioritized session, by which watchers know the sessions of each other.
//!
//! It is a shared advisory lock that the watcher holds, on the pair of a constant and the pid
//! of its prioritized session. `pg_locks` shows it to every role and from every database; the
//! database of the watcher has no meaning.

use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::AstPass;
use diesel::sql_types::Integer;

/// The first half of the key: the first four bytes of the SHA-256 digest of
/// `diesel_pglock::prioritized`, little endian as in [`AdvisoryKey::named`](crate::AdvisoryKey::named).
const CLASS: i32 = -670_405_408;

/// The condition that the row `l` of `pg_locks` is a mark; its `objid` is the session's pid.
pub(crate) const IS_MARK: &str = "(l.locktype = 'advisory' AND l.classid = 3624561888::pg_catalog.oid \
    AND l.objsubid = 2 AND l.granted)";

/// Marks the session `pid` without waiting.
///
/// The result is `false` if another session holds the key exclusively.
pub(crate) fn walk_mark<'b>(pid: &'b i32, out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
    walk_call("pg_catalog.pg_try_advisory_lock_shared(", pid, out)
}

/// Removes the mark from the session `pid`. The result is `false` if there was none.
pub(crate) fn walk_unmark<'b>(pid: &'b i32, out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
    walk_call("pg_catalog.pg_advisory_unlock_shared(", pid, out)
}

/// Calls a lock function with the key of the mark.
fn walk_call<'b>(function: &str, pid: &'b i32, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
    out.push_sql(function);
    out.push_bind_param::<Integer, _>(&CLASS)?;
    out.push_sql(", ");
    out.push_bind_param::<Integer, _>(pid)?;
    out.push_sql(")");
    Ok(())
}

/// Writes the condition that no watcher has marked the session `pid`.
pub(crate) fn walk_unmarked<'b>(pid: &'b i32, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
    out.push_sql("NOT EXISTS (SELECT FROM pg_catalog.pg_lock_status() AS l WHERE ");
    out.push_sql(IS_MARK);
    out.push_sql(" AND l.objid::pg_catalog.int8 = ");
    out.push_bind_param::<Integer, _>(pid)?;
    out.push_sql(")");
    Ok(())
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::types::AdvisoryKey;

    #[test]
    fn the_mark_is_the_same_in_every_version_of_this_crate() {
        let digest = Sha256::digest("diesel_pglock::prioritized");
        let mut first = [0; 4];
        first.copy_from_slice(&digest[..4]);
        assert_eq!(CLASS, i32::from_le_bytes(first));
        let classid = AdvisoryKey::pair(CLASS, 1).classid();
        assert!(IS_MARK.contains(&format!(" l.classid = {classid}::")));
    }
}
