//! The scratch database, on which migrations are run to see what they do.

use std::any::Any;

use diesel::connection::{BoxableConnection, LoadConnection, SimpleConnection};
use diesel::migration::{Migration, Result};
use diesel::pg::Pg;
use diesel::result::Error as DieselError;
use diesel::{Connection, QueryResult};
use diesel_migrations::MigrationHarness;

use super::identity::{DatabaseIdentity, require_empty};
use super::observer::Observer;
use super::relations::Relations;
use super::tracer::{Trace, Tracer};
use crate::error::Error;
use crate::fmt::with_sources;
use crate::migrate::applied_migrations::AppliedMigrations;
use crate::migrate::history::HistoryPlace;
use crate::migrate::history_statement::HistoryEntry;
use crate::migrate::locks_first::LocksFirst;
use crate::session::{BackendPid, Driver, run_ready, uncached};
use crate::source::WatcherSource;

/// A scratch database, and the real one that it must not be.
pub(super) struct Scratch<'s, W> {
    pub(super) source: &'s W,
    pub(super) real: DatabaseIdentity,
}

impl<W> Scratch<'_, W>
where
    W: WatcherSource<Connection: MigrationHarness<Pg>>,
{
    /// Opens the session that runs the applied migrations, in a database without tables.
    pub(super) fn open(&self) -> Result<ScratchSession<W::Connection>> {
        let mut conn = self.connect()?;
        require_empty(&mut conn)?;
        ScratchSession::new(conn)
    }

    /// Opens the session that runs the pending migrations, and the one that observes it.
    pub(super) fn open_traced(&self) -> Result<ScratchSession<W::Connection>> {
        let mut session = ScratchSession::new(self.connect()?)?;
        let observer = Observer::new(self.connect()?, session.pid);
        session.tracer = Some(Tracer::new(observer)?);
        Ok(session)
    }

    /// Connects; each connection is checked: a name may lead to several servers.
    fn connect(&self) -> Result<W::Connection> {
        let mut conn = self.source.connect().map_err(|error| {
            // The source is not a watcher's here.
            let cause = match error {
                Error::Watcher(cause) => with_sources(cause.as_ref()),
                error => with_sources(&error),
            };
            Error::Scratch(cause)
        })?;
        if DatabaseIdentity::of(&mut conn)?.is_same(&self.real) {
            let name = &self.real.name;
            let reason = format!("`{name}` is the database that is planned for");
            return Err(Error::Scratch(reason).into());
        }
        Ok(conn)
    }
}

/// A session on the scratch database; migrations see it as their connection.
pub(super) struct ScratchSession<C> {
    conn: C,
    pid: i32,
    history: HistoryPlace,
    tracer: Option<Tracer<C>>,
}

impl<C> ScratchSession<C>
where
    C: Connection<Backend = Pg> + LoadConnection + MigrationHarness<Pg>,
{
    fn new(mut conn: C) -> Result<Self> {
        Ok(Self {
            history: AppliedMigrations::read_or_create(&mut conn, None)?.place,
            pid: run_ready(uncached(&mut conn).ask(BackendPid))?,
            conn,
            tracer: None,
        })
    }
}

impl<C> ScratchSession<C>
where
    C: Connection<Backend = Pg> + LoadConnection + 'static,
{
    /// Returns the relations before the pending migrations.
    pub(super) fn baseline(&self) -> Relations {
        let tracer = self.tracer.as_ref();
        tracer.map(|it| it.baseline.clone()).unwrap_or_default()
    }

    /// Applies a migration as the harness does, and returns its trace.
    pub(super) fn apply(
        &mut self,
        migration: &dyn Migration<Pg>,
        locks: &LocksFirst,
    ) -> (Result<()>, Trace) {
        let is_one_transaction = migration.metadata().run_in_transaction();
        let applied = self.apply_statements(migration, locks, is_one_transaction);
        let applied = match applied {
            Ok(()) if is_one_transaction => self.commit().map_err(Into::into),
            Ok(()) => Ok(()),
            Err(error) => {
                // A session that cannot answer makes the next migration fail too.
                let _ = self.conn.batch_execute("ROLLBACK");
                Err(error)
            }
        };
        let trace = self.tracer.as_mut().map(Tracer::finish);
        (applied, trace.unwrap_or_default())
    }

    /// Commits the transaction of a migration, if that has not ended it: then a run would fail.
    fn commit(&mut self) -> QueryResult<()> {
        let tracer = self.tracer.as_ref();
        if tracer.is_some_and(|tracer| !tracer.is_in_transaction) {
            return Err(DieselError::NotInTransaction);
        }
        self.conn.batch_execute("COMMIT")
    }

    fn apply_statements(
        &mut self,
        migration: &dyn Migration<Pg>,
        locks: &LocksFirst,
        is_one_transaction: bool,
    ) -> Result<()> {
        self.refuse_pooler()?;
        if let Some(tracer) = &mut self.tracer {
            tracer.begin(&mut self.conn, is_one_transaction)?;
        }
        if is_one_transaction {
            self.conn.batch_execute("BEGIN")?;
            self.lock_first(locks)?;
        }
        migration.run(self)?;
        self.note_rest("it was done by code, not by a text")?;
        self.record(migration)
    }

    fn lock_first(&mut self, locks: &LocksFirst) -> Result<()> {
        if locks.is_empty() {
            return Ok(());
        }
        locks.rounds(|round| round.take(&mut self.conn))?;
        self.note_rest("it is locked first")
    }

    fn note_rest(&mut self, caveat: &str) -> Result<()> {
        match &mut self.tracer {
            Some(tracer) => Ok(tracer.note_rest(&mut self.conn, caveat)?),
            None => Ok(()),
        }
    }

    /// Records the migration in the history, which it may have moved to another schema.
    fn record(&mut self, migration: &dyn Migration<Pg>) -> Result<()> {
        let place = self.history.current(&mut self.conn)?;
        let schema = place.as_ref().and_then(HistoryPlace::schema);
        let entry = HistoryEntry {
            version: migration.name().version().to_string(),
            reverted: false,
        };
        Ok(self.conn.batch_execute(&entry.sql(schema)?)?)
    }

    /// Refuses a pooler in transaction mode: the locks of another session would be read.
    fn refuse_pooler(&mut self) -> Result<()> {
        match run_ready(uncached(&mut self.conn).ask(BackendPid))? {
            pid if pid == self.pid => Ok(()),
            pid => Err(Error::SessionChanged {
                what: "the scratch database".to_owned(),
                expected: self.pid,
                found: Some(pid),
            }
            .into()),
        }
    }
}

impl<C> SimpleConnection for ScratchSession<C>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    fn batch_execute(&mut self, sql: &str) -> QueryResult<()> {
        match &mut self.tracer {
            Some(tracer) => tracer.run(&mut self.conn, sql),
            None => self.conn.batch_execute(sql),
        }
    }
}

/// The code of a Rust migration finds the connection of the scratch database inside.
impl<C> BoxableConnection<Pg> for ScratchSession<C>
where
    C: Connection<Backend = Pg> + LoadConnection + 'static,
{
    fn as_any(&self) -> &dyn Any {
        &self.conn
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        &mut self.conn
    }
}
