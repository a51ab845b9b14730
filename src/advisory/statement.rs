//! The statements that take and release advisory locks.

use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{BigInt, Bool, Integer};

use crate::error::Result;
use crate::session::{Driver, Statement, query};
use crate::timeout::{LockBlock, Reply, can_check_client, with_client_check};
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

    /// The name of the function that waits for the lock.
    fn lock(&self) -> &'static str {
        match (self.shared, self.xact) {
            (false, false) => "pg_catalog.pg_advisory_lock",
            (false, true) => "pg_catalog.pg_advisory_xact_lock",
            (true, false) => "pg_catalog.pg_advisory_lock_shared",
            (true, true) => "pg_catalog.pg_advisory_xact_lock_shared",
        }
    }

    /// The name of the function that takes the lock if it is free.
    fn try_lock(&self) -> &'static str {
        match (self.shared, self.xact) {
            (false, false) => "pg_catalog.pg_try_advisory_lock",
            (false, true) => "pg_catalog.pg_try_advisory_xact_lock",
            (true, false) => "pg_catalog.pg_try_advisory_lock_shared",
            (true, true) => "pg_catalog.pg_try_advisory_xact_lock_shared",
        }
    }

    /// The name of the function that gives the lock back.
    fn unlock(&self) -> &'static str {
        match self.shared {
            false => "pg_catalog.pg_advisory_unlock",
            true => "pg_catalog.pg_advisory_unlock_shared",
        }
    }

    /// True if the text of its statements depends on its mode and duration alone.
    fn is_common(&self) -> bool {
        matches!(self.key.0, Repr::Big(_)) && !self.on_standby
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
        let (lock, key) = (self.lock(), self.key.arguments());
        LockBlock {
            locks: format!("PERFORM {lock}({key}); "),
            held: Some(self.held()),
            reply: Reply::Outcome { local },
        }
    }

    /// The message that waits for the lock without a timeout, on this backend alone: on another
    /// one of a pooler it fails, because the setting does not exist.
    pub(crate) fn plain_wait(&self, backend: i32, checks_client: bool, local: bool) -> String {
        let (lock, key) = (self.lock(), self.key.arguments());
        let wait = format!(
            "SELECT CASE WHEN pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.=) {backend} \
             THEN {lock}({key})::pg_catalog.text \
             ELSE pg_catalog.current_setting('diesel_pglock.another_backend') END"
        );
        match checks_client {
            true => with_client_check(&wait, local),
            false => wait,
        }
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

/// Acquires the lock if it is free; returns a [`Tried`] as a number, and the backend that was
/// asked.
///
/// In recovery the lock is not acquired, unless the caller wants a lock on the standby.
#[derive(Debug)]
pub(crate) struct TryAdvisoryLock(pub(crate) AdvisoryTarget);

query!(TryAdvisoryLock => (Integer, Integer), (i32, i32));

// The backend's pid costs nothing, and reveals a pooler. The wait is looked into after a refusal
// alone.
impl QueryFragment<Pg> for TryAdvisoryLock {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT CASE ");
        if !self.0.on_standby {
            out.push_sql("WHEN pg_catalog.pg_is_in_recovery() THEN 4 ");
        }
        out.push_sql("WHEN ");
        push_call(self.0.try_lock(), &self.0.key, &mut out)?;
        out.push_sql(concat!(
            " THEN 3 \
             WHEN pg_catalog.current_setting('lock_timeout') OPERATOR(pg_catalog.<>) '0' THEN 0 \
             WHEN ",
            can_check_client!(),
            " THEN 2 ELSE 1 END, pg_catalog.pg_backend_pid()",
        ));
        Ok(())
    }
}

/// The result of a try.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Tried {
    Granted,
    Refused(WaitKind),
    InRecovery,
}

impl From<i32> for Tried {
    fn from(number: i32) -> Self {
        match number {
            3 => Self::Granted,
            4 => Self::InRecovery,
            1 => Self::Refused(WaitKind::Plain),
            2 => Self::Refused(WaitKind::WithClientCheck),
            _ => Self::Refused(WaitKind::WithTimeout),
        }
    }
}

impl TryAdvisoryLock {
    pub(crate) async fn ask(self, driver: &mut impl Driver) -> Result<(Tried, i32)> {
        let target = self.0;
        let reply = match (target.is_common(), target.shared, target.xact) {
            (false, ..) => driver.ask(self).await,
            (true, false, false) => driver.ask(Typed::<_, false, false>(self)).await,
            (true, false, true) => driver.ask(Typed::<_, false, true>(self)).await,
            (true, true, false) => driver.ask(Typed::<_, true, false>(self)).await,
            (true, true, true) => driver.ask(Typed::<_, true, true>(self)).await,
        };
        reply.map(|(tried, backend)| (tried.into(), backend))
    }
}

/// The statement that waits after a refused try.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum WaitKind {
    /// The session has a lock timeout, whose failure must be told from others.
    WithTimeout,
    Plain,
    /// The same, and the server can check meanwhile whether the client is connected.
    WithClientCheck,
}

/// A statement about a common target with a type of its own, by which the statement cache finds it
/// without rendering it.
struct Typed<Q, const SHARED: bool, const XACT: bool>(Q);

impl<Q: 'static, const SHARED: bool, const XACT: bool> QueryId for Typed<Q, SHARED, XACT> {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<Q: Query, const SHARED: bool, const XACT: bool> Query for Typed<Q, SHARED, XACT> {
    type SqlType = Q::SqlType;
}

impl<Q: Statement, const SHARED: bool, const XACT: bool> Statement for Typed<Q, SHARED, XACT> {
    type Row = Q::Row;
}

impl<Q, const SHARED: bool, const XACT: bool> QueryFragment<Pg> for Typed<Q, SHARED, XACT>
where
    Q: QueryFragment<Pg>,
{
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.0.walk_ast(out)
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
        push_call(self.target.unlock(), &self.target.key, &mut out)?;
        out.push_sql(" ELSE false END, pg_catalog.pg_backend_pid()");
        Ok(())
    }
}

impl AdvisoryUnlock {
    pub(crate) async fn ask(self, driver: &mut impl Driver) -> Result<(bool, i32)> {
        match (self.target.is_common(), self.target.shared) {
            (false, _) => driver.ask(self).await,
            (true, false) => driver.ask(Typed::<_, false, false>(self)).await,
            (true, true) => driver.ask(Typed::<_, true, false>(self)).await,
        }
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
