//! Runs the text of a migration statement by statement, and notes what each does.

use diesel::Connection;
use diesel::QueryResult;
use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::result::Error as DieselError;
use diesel::sql_types::Bool;

use super::observer::{HeldLocks, Observer};
use super::relations::{Changes, Relations, load_relations};
use crate::error::Result;
use crate::fmt::with_sources;
use crate::migrate::lock_recorder::{BEGIN, END, is_table};
use crate::migrate::sql_splitter::{SqlStatement, Unsplittable, first_word, split};
use crate::session::{Driver, query, run_ready, uncached};
use crate::types::{RelationKind, TableLockMode};

/// Statements that set no snapshot and change no file.
///
/// After them a migration may still set the isolation level of its transaction. A look at the
/// files in its session would prevent that.
const WITHOUT_SNAPSHOT: &[&str] = &[
    "begin",
    "start",
    "commit",
    "end",
    "savepoint",
    "release",
    "set",
    "reset",
    "show",
    "lock",
    "discard",
    "deallocate",
    "listen",
    "unlisten",
    "notify",
];

/// Notes what the statements of one session do.
pub(super) struct Tracer<C> {
    observer: Observer<C>,
    /// The relations before the pending migrations: sessions may use these.
    pub(super) baseline: Relations,
    /// The relations after the last statement.
    relations: Relations,
    held: HeldLocks,
    pub(super) is_in_transaction: bool,
    /// True if the transaction is the one that the server opens for a text of several statements.
    is_implicit: bool,
    standard_strings: bool,
    trace: Trace,
}

/// The trace of one migration.
#[derive(Debug, Default)]
pub(super) struct Trace {
    pub(super) statements: Vec<TracedStatement>,
    pub(super) failed: Option<FailedStatement>,
}

/// The statement that failed, and its error.
#[derive(Debug)]
pub(super) struct FailedStatement {
    pub(super) line: usize,
    pub(super) sql: String,
    pub(super) error: String,
}

/// A statement, and what it did.
#[derive(Debug)]
pub(super) struct TracedStatement {
    pub(super) sql: String,
    pub(super) line: usize,
    pub(super) caveat: Option<String>,
    /// The locks that it took, of relations that were there before.
    pub(super) locks: HeldLocks,
    pub(super) changes: Changes,
}

impl TracedStatement {
    /// Returns the relations that the plan mentions, by oid.
    pub(super) fn relations(&self) -> impl Iterator<Item = u32> {
        let tables = self.changes.rewritten.iter().copied();
        let indexed = self.changes.built.iter().filter_map(|(it, _)| it.table);
        self.locks.keys().copied().chain(tables).chain(indexed)
    }
}

impl<C> Tracer<C>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    pub(super) fn new(mut observer: Observer<C>) -> Result<Self> {
        Ok(Self {
            baseline: observer.relations()?,
            observer,
            relations: Relations::new(),
            held: HeldLocks::new(),
            is_in_transaction: false,
            is_implicit: false,
            standard_strings: true,
            trace: Trace::default(),
        })
    }

    /// Prepares for a migration, before it opens its transaction.
    pub(super) fn begin(&mut self, conn: &mut C, opens_transaction: bool) -> Result<()> {
        self.trace = Trace::default();
        self.held.clear();
        self.is_in_transaction = opens_transaction;
        self.is_implicit = false;
        self.relations = self.observer.relations()?;
        self.standard_strings = run_ready(uncached(conn).ask(StandardStrings))?;
        Ok(())
    }

    /// Returns the trace of the migration.
    pub(super) fn finish(&mut self) -> Trace {
        std::mem::take(&mut self.trace)
    }

    /// Notes what was done in another way than by a text: the locks that come first, or code.
    pub(super) fn note_rest(&mut self, conn: &mut C, caveat: &str) -> Result<()> {
        let rest = SqlStatement { text: "", line: 1 };
        let mut traced = self.look(conn, rest)?;
        if !traced.locks.is_empty() || !traced.changes.is_empty() {
            traced.caveat = Some(caveat.to_owned());
            self.trace.statements.push(traced);
        }
        Ok(())
    }

    /// Runs a text as the server would run it as a whole, in one message.
    pub(super) fn run(&mut self, conn: &mut C, sql: &str) -> QueryResult<()> {
        match split(sql, self.standard_strings) {
            Ok(statements) => self.run_statements(conn, &statements),
            Err(why) => self.run_whole(conn, sql, &why),
        }
    }

    fn run_whole(&mut self, conn: &mut C, sql: &str, why: &Unsplittable) -> QueryResult<()> {
        let whole = SqlStatement {
            text: sql.trim(),
            line: 1,
        };
        if let Unsplittable::Copy { line } = why {
            let line = *line;
            // The connection would wait for the data.
            return self.fail_at(SqlStatement { line, ..whole }, |_| {
                Err(DieselError::QueryBuilderError(why.to_string().into()))
            });
        }
        self.execute(conn, whole)?;
        let mut traced = self.look(conn, whole)?;
        traced.caveat = Some(format!("it was run as a whole: {why}"));
        self.trace.statements.push(traced);
        Ok(())
    }

    fn run_statements(&mut self, conn: &mut C, statements: &[SqlStatement<'_>]) -> QueryResult<()> {
        if let ([statement], false) = (statements, self.is_in_transaction) {
            return self.run_alone(conn, *statement);
        }
        for statement in statements {
            self.run_in_block(conn, *statement)?;
        }
        if self.is_implicit && self.is_in_transaction {
            conn.batch_execute("COMMIT")?;
            self.is_in_transaction = false;
        }
        Ok(())
    }

    /// Runs one of several statements; outside a transaction the server opens one for them.
    fn run_in_block(&mut self, conn: &mut C, statement: SqlStatement<'_>) -> QueryResult<()> {
        let controls = ["begin", "start", "commit", "end", "rollback", "abort"];
        if !self.is_in_transaction {
            self.is_implicit = !controls.contains(&&*first_word(statement.text));
            if self.is_implicit {
                conn.batch_execute("BEGIN")?;
            }
        }
        self.run_and_note(conn, statement)
    }

    /// Runs the only statement of a text, outside a transaction if it must.
    fn run_alone(&mut self, conn: &mut C, statement: SqlStatement<'_>) -> QueryResult<()> {
        if WITHOUT_SNAPSHOT.contains(&&*first_word(statement.text)) {
            return self.run_and_note(conn, statement);
        }
        conn.batch_execute("BEGIN")?;
        self.is_in_transaction = true;
        if conn.batch_execute(statement.text).is_err() {
            conn.batch_execute("ROLLBACK")?;
            self.is_in_transaction = false;
            return self.run_outside_transaction(conn, statement);
        }
        self.note(conn, statement)?;
        self.fail_at(statement, |_| conn.batch_execute("COMMIT"))?;
        self.is_in_transaction = false;
        Ok(())
    }

    fn run_and_note(&mut self, conn: &mut C, statement: SqlStatement<'_>) -> QueryResult<()> {
        self.execute(conn, statement)?;
        self.note(conn, statement)
    }

    fn note(&mut self, conn: &mut C, statement: SqlStatement<'_>) -> QueryResult<()> {
        let traced = self.look(conn, statement)?;
        self.trace.statements.push(traced);
        Ok(())
    }

    fn run_outside_transaction(
        &mut self,
        conn: &mut C,
        statement: SqlStatement<'_>,
    ) -> QueryResult<()> {
        let (result, mut locks) = self.observer.watch(|| conn.batch_execute(statement.text))?;
        self.fail_at(statement, |_| result)?;
        // A concurrent command locks its index when no session uses that any more.
        locks.retain(|oid, _| self.is_shared_table(*oid));
        let (changes, caveat) = self.changes(conn, statement);
        self.held.clear();
        self.trace.statements.push(TracedStatement {
            sql: statement.text.to_owned(),
            line: statement.line,
            caveat,
            locks,
            changes,
        });
        Ok(())
    }

    fn execute(&mut self, conn: &mut C, statement: SqlStatement<'_>) -> QueryResult<()> {
        self.fail_at(statement, |_| conn.batch_execute(statement.text))
    }

    fn fail_at(
        &mut self,
        statement: SqlStatement<'_>,
        run: impl FnOnce(&mut Self) -> QueryResult<()>,
    ) -> QueryResult<()> {
        run(self).inspect_err(|error| {
            self.trace.failed = Some(FailedStatement {
                line: statement.line,
                sql: statement.text.to_owned(),
                error: with_sources(error),
            });
        })
    }

    /// Reads what a statement did that has just run.
    fn look(&mut self, conn: &mut C, statement: SqlStatement<'_>) -> Result<TracedStatement> {
        let seen = self.observer.look()?;
        self.is_in_transaction = seen.is_in_transaction;
        let before = std::mem::replace(&mut self.held, seen.locks);
        let mut locks = self.held.clone();
        let was = |oid: &u32| before.get(oid).copied();
        locks.retain(|oid, mode| was(oid).is_none_or(|before| before < *mode));
        locks.retain(|oid, mode| self.is_shared_table(*oid) || self.is_locked_index(*oid, *mode));
        let (changes, caveat) = self.changes(conn, statement);
        Ok(TracedStatement {
            sql: statement.text.to_owned(),
            line: statement.line,
            caveat,
            locks,
            changes,
        })
    }

    /// Returns true for a table or view that other sessions may use.
    fn is_shared_table(&self, oid: u32) -> bool {
        let relation = self.baseline.get(&oid);
        relation.is_some_and(|relation| is_table(&relation.kind))
    }

    /// Returns true for an index that blocks queries of its table, unlike the lock on the table.
    fn is_locked_index(&self, oid: u32, mode: TableLockMode) -> bool {
        let exclusive = TableLockMode::AccessExclusive;
        let index = self.baseline.get(&oid);
        let index = index.filter(|it| it.kind == RelationKind::Index && mode == exclusive);
        let table = index.and_then(|index| index.table);
        table.is_some_and(|table| self.held.get(&table) != Some(&exclusive))
    }

    /// Compares the files before and after a statement; a failure is a caveat.
    fn changes(&mut self, conn: &mut C, statement: SqlStatement<'_>) -> (Changes, Option<String>) {
        let first = first_word(statement.text);
        if WITHOUT_SNAPSHOT.contains(&&*first) {
            return Default::default();
        }
        let after = match self.read_relations(conn) {
            Ok(after) => after,
            Err(error) => {
                let error = with_sources(&error);
                let caveat = format!("rewrites and new indexes could not be read: {error}");
                return (Changes::default(), Some(caveat));
            }
        };
        let mut changes = Changes::between(&self.relations, &after);
        self.relations = after;
        // A truncated table has a new file too, which is empty. A rollback restores the old ones.
        if ["truncate", "rollback", "abort"].contains(&&*first) {
            changes = Changes::default();
        }
        let baseline = &self.baseline;
        changes.retain(|table| baseline.contains_key(&table));
        (changes, None)
    }

    fn read_relations(&mut self, conn: &mut C) -> Result<Relations> {
        if !self.is_in_transaction {
            return self.observer.relations();
        }
        conn.batch_execute(&format!("SAVEPOINT diesel_pglock; {BEGIN}"))?;
        let relations = load_relations(conn);
        conn.batch_execute(END)?;
        relations
    }
}

/// Reads whether a backslash is a plain character in strings.
#[derive(Debug)]
struct StandardStrings;

query!(StandardStrings => Bool, bool);

impl QueryFragment<Pg> for StandardStrings {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "SELECT pg_catalog.current_setting('standard_conforming_strings') \
             OPERATOR(pg_catalog.=) 'on'",
        );
        Ok(())
    }
}
