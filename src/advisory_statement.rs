//! The statements that take and release advisory locks.

use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{BigInt, Bool, Integer};

use crate::AdvisoryKey;
use crate::advisory_key::Repr;
use crate::statement::{ACQUIRED, BUSY, OUTCOME, command, push_do, query};

/// Which advisory lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdvisoryTarget {
    pub(crate) key: AdvisoryKey,
    pub(crate) shared: bool,
    /// Held until the transaction ends, rather than the session.
    pub(crate) xact: bool,
}

impl AdvisoryTarget {
    /// The session's exclusive lock; the builder's options change that.
    pub(crate) fn new(key: AdvisoryKey) -> Self {
        Self {
            key,
            shared: false,
            xact: false,
        }
    }

    /// The name of the lock function that starts with `verb`.
    fn function(&self, verb: &str) -> String {
        let xact = if self.xact { "_xact" } else { "" };
        let shared = if self.shared { "_shared" } else { "" };
        match verb {
            "unlock" => format!("pg_catalog.pg_advisory_unlock{shared}"),
            verb => format!("pg_catalog.pg_{verb}advisory{xact}_lock{shared}"),
        }
    }

    /// The condition that this session holds the lock.
    fn held(&self) -> String {
        format!(
            "EXISTS (SELECT FROM pg_catalog.pg_locks AS l \
             WHERE l.locktype = 'advisory' AND l.granted AND l.pid = pg_backend_pid() \
             AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = current_database()) \
             AND l.classid = {} AND l.objid = {} AND l.objsubid = {} AND l.mode = '{}')",
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

/// What the lock is called in an error.
impl std::fmt::Display for AdvisoryTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shared = if self.shared { "shared " } else { "" };
        write!(f, "{shared}advisory lock `{}`", self.key)
    }
}

/// Takes the lock if it is free: whether it was, and the backend that has it.
#[derive(Debug)]
pub(crate) struct TryAdvisoryLock(pub(crate) AdvisoryTarget);

query!(TryAdvisoryLock => (Bool, Integer), (bool, i32));

impl QueryFragment<Pg> for TryAdvisoryLock {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        call(&self.0, "try_", out)
    }
}

/// Releases the lock: whether it was held, and the backend that was asked.
#[derive(Debug)]
pub(crate) struct AdvisoryUnlock(pub(crate) AdvisoryTarget);

query!(AdvisoryUnlock => (Bool, Integer), (bool, i32));

impl QueryFragment<Pg> for AdvisoryUnlock {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        call(&self.0, "unlock", out)
    }
}

/// Whether this session holds the lock.
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

/// The backend's pid comes along for nothing, and shows a pooler in between.
fn call<'b>(
    target: &'b AdvisoryTarget,
    verb: &str,
    mut out: AstPass<'_, 'b, Pg>,
) -> QueryResult<()> {
    out.push_sql("SELECT ");
    out.push_sql(&target.function(verb));
    out.push_sql("(");
    match &target.key.0 {
        Repr::Big(key) => out.push_bind_param::<BigInt, _>(key)?,
        Repr::Pair(first, second) => {
            out.push_bind_param::<Integer, _>(first)?;
            out.push_sql(", ");
            out.push_bind_param::<Integer, _>(second)?;
        }
    }
    out.push_sql("), pg_backend_pid()");
    Ok(())
}

/// Waits for the lock, and leaves in a setting whether it came.
///
/// Diesel shows no SQLSTATE and messages are translated, so the server itself
/// tells "busy" from every other error, in a handler that also keeps a
/// surrounding transaction usable. A wait that ends with an error may hold the
/// lock all the same, when it was granted at the last moment: the handlers look.
#[derive(Debug)]
pub(crate) struct WaitForAdvisoryLock {
    pub(crate) target: AdvisoryTarget,
    /// In milliseconds; `None` leaves the session's `lock_timeout` as it is.
    pub(crate) timeout: Option<u32>,
    /// Whether a transaction is open, which the outcome need not outlive.
    pub(crate) local: bool,
}

command!(WaitForAdvisoryLock);

impl WaitForAdvisoryLock {
    fn body(&self) -> String {
        let Self { target, local, .. } = self;
        let key = target.key;
        let held = target.held();
        let lock = target.function("");
        // A transaction's lock went with the block's own subtransaction.
        let give_back = match target.xact {
            true => String::new(),
            false => format!(
                "IF {held} THEN PERFORM {unlock}({key}); END IF; ",
                unlock = target.function("unlock")
            ),
        };
        let timeout = self.timeout.map_or(String::new(), |millis| {
            format!("PERFORM set_config('lock_timeout', '{millis}', true); ")
        });
        format!(
            "DECLARE ambient text := current_setting('lock_timeout'); outcome text := '{ACQUIRED}'; \
             BEGIN \
             BEGIN {timeout}PERFORM {lock}({key}); \
             EXCEPTION \
             WHEN lock_not_available THEN IF NOT {held} THEN outcome := '{BUSY}'; END IF; \
             WHEN query_canceled OR OTHERS THEN {give_back}RAISE; \
             END; \
             PERFORM set_config('lock_timeout', ambient, true); \
             PERFORM set_config('{OUTCOME}', outcome, {local}); \
             END"
        )
    }
}

impl QueryFragment<Pg> for WaitForAdvisoryLock {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        push_do(&mut out, &self.body());
        Ok(())
    }
}
