//! The statements that take and release advisory locks.

use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{BigInt, Bool, Integer, Nullable};

use crate::session::query;
use crate::timeout::{LockBlock, Reply, checked};
use crate::types::Repr;
use crate::types::{AdvisoryKey, LockMode};
use crate::views::CURRENT_DATABASE_OID;

/// An advisory lock, with its mode and duration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdvisoryTarget {
    pub(crate) key: AdvisoryKey,
    pub(crate) shared: bool,
    /// Held until the transaction ends, rather than the session.
    pub(crate) xact: bool,
    /// Waited for by asking again, rather than inside the server.
    pub(crate) polling: bool,
    /// Acquired in recovery too, where it excludes the sessions of the standby alone.
    pub(crate) on_standby: bool,
}

impl AdvisoryTarget {
    /// The session's exclusive lock; the builder's options change that.
    pub(crate) fn new(key: AdvisoryKey) -> Self {
        Self {
            key,
            shared: false,
            xact: false,
            polling: false,
            on_standby: false,
        }
    }

    /// The name of the function that takes the lock; `verb` is empty or `try_`.
    fn lock(&self, verb: &str) -> String {
        let xact = if self.xact { "_xact" } else { "" };
        format!("pg_catalog.pg_{verb}advisory{xact}_lock{}", self.suffix())
    }

    /// The name of the function that gives the lock back.
    fn unlock(&self) -> String {
        format!("pg_catalog.pg_advisory_unlock{}", self.suffix())
    }

    fn suffix(&self) -> &'static str {
        if self.shared { "_shared" } else { "" }
    }

    /// The modes that keep this lock from being taken.
    pub(crate) fn conflicts(&self) -> Vec<LockMode> {
        if self.shared {
            vec![LockMode::Exclusive]
        } else {
            vec![LockMode::Exclusive, LockMode::Share]
        }
    }

    /// The block that waits for the lock.
    pub(crate) fn block(&self, local: bool) -> LockBlock {
        let (lock, key) = (self.lock(""), self.key.arguments());
        LockBlock {
            locks: format!("PERFORM {lock}({key}); "),
            held: Some(self.held()),
            reply: Reply::Outcome { local },
        }
    }

    /// The message that waits for the lock without a timeout, on this backend alone: on another
    /// one of a pooler it fails, because the setting does not exist.
    pub(crate) fn plain_wait(&self, local: bool, backend: i32) -> String {
        let (lock, key) = (self.lock(""), self.key.arguments());
        let wait = format!(
            "SELECT CASE WHEN pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.=) {backend} \
             THEN {lock}({key})::pg_catalog.text \
             ELSE pg_catalog.current_setting('diesel_pglock.another_backend') END"
        );
        checked(&wait, local)
    }

    /// The condition that this session holds the lock.
    fn held(&self) -> String {
        self.held_by("pg_catalog.pg_backend_pid()", CURRENT_DATABASE_OID)
    }

    /// The condition that a backend holds the lock in a database; both are SQL expressions.
    pub(super) fn held_by(&self, pid: &str, database: &str) -> String {
        let is_lock = self.is_lock("l");
        format!(
            "EXISTS (SELECT FROM pg_catalog.pg_locks AS l WHERE {is_lock} \
             AND l.granted AND l.pid = {pid} AND l.database = {database})"
        )
    }

    /// The condition that a row of `pg_locks` is this lock, of any session and database.
    pub(crate) fn is_lock(&self, row: &str) -> String {
        format!(
            "({row}.locktype OPERATOR(pg_catalog.=) 'advisory' \
             AND {row}.classid OPERATOR(pg_catalog.=) {}::pg_catalog.oid \
             AND {row}.objid OPERATOR(pg_catalog.=) {}::pg_catalog.oid \
             AND {row}.objsubid OPERATOR(pg_catalog.=) {} \
             AND {row}.mode OPERATOR(pg_catalog.=) '{}')",
            self.key.classid(),
            self.key.objid(),
            self.key.objsubid(),
            self.mode(),
        )
    }

    /// The mode as `pg_locks` shows it.
    fn mode(&self) -> &'static str {
        if self.shared {
            "ShareLock"
        } else {
            "ExclusiveLock"
        }
    }
}

/// The name of the lock in errors.
impl std::fmt::Display for AdvisoryTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shared = if self.shared { "shared " } else { "" };
        write!(f, "{shared}advisory lock `{}`", self.key)
    }
}

/// Acquires the lock if it is free; returns whether it was, and the backend that was asked.
///
/// In recovery the lock is not acquired, and the first column is NULL, unless the caller wants
/// a lock on the standby.
#[derive(Debug)]
pub(crate) struct TryAdvisoryLock(pub(crate) AdvisoryTarget);

query!(TryAdvisoryLock => (Nullable<Bool>, Integer), (Option<bool>, i32));

// The backend's pid costs nothing, and reveals a pooler.
impl QueryFragment<Pg> for TryAdvisoryLock {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT ");
        if !self.0.on_standby {
            out.push_sql("CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN ");
        }
        push_call(&self.0.lock("try_"), &self.0.key, &mut out)?;
        if !self.0.on_standby {
            out.push_sql(" END");
        }
        out.push_sql(", pg_catalog.pg_backend_pid()");
        Ok(())
    }
}

/// Returns whether the session has a lock timeout, and the backend that was asked.
#[derive(Debug)]
pub(crate) struct HasLockTimeout;

query!(HasLockTimeout => (Bool, Integer), (bool, i32));

impl QueryFragment<Pg> for HasLockTimeout {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "SELECT pg_catalog.current_setting('lock_timeout') OPERATOR(pg_catalog.<>) '0', \
             pg_catalog.pg_backend_pid()",
        );
        Ok(())
    }
}

/// Releases the lock: whether it was held, and the backend that was asked.
///
/// Behind a pooler another backend may be asked, which holds the same lock for another
/// client: it is left alone.
#[derive(Debug)]
pub(crate) struct AdvisoryUnlock {
    pub(crate) target: AdvisoryTarget,
    pub(crate) backend: i32,
}

query!(AdvisoryUnlock => (Bool, Integer), (bool, i32));

impl QueryFragment<Pg> for AdvisoryUnlock {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT CASE WHEN pg_catalog.pg_backend_pid() = ");
        out.push_bind_param::<Integer, _>(&self.backend)?;
        out.push_sql(" THEN ");
        push_call(&self.target.unlock(), &self.target.key, &mut out)?;
        out.push_sql(" ELSE false END, pg_catalog.pg_backend_pid()");
        Ok(())
    }
}

/// Returns `true` if this session holds the lock.
#[derive(Debug)]
pub(crate) struct AdvisoryHeld(pub(crate) AdvisoryTarget);

query!(AdvisoryHeld => Bool, bool);

impl QueryFragment<Pg> for AdvisoryHeld {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT ");
        out.push_sql(&self.0.held());
        out.unsafe_to_cache_prepared();
        Ok(())
    }
}

fn push_call<'b>(
    function: &str,
    key: &'b AdvisoryKey,
    out: &mut AstPass<'_, 'b, Pg>,
) -> QueryResult<()> {
    out.push_sql(function);
    out.push_sql("(");
    match &key.0 {
        Repr::Big(key) => out.push_bind_param::<BigInt, _>(key)?,
        Repr::Pair(first, second) => {
            out.push_bind_param::<Integer, _>(first)?;
            out.push_sql(", ");
            out.push_bind_param::<Integer, _>(second)?;
        }
    }
    out.push_sql(")");
    Ok(())
}
