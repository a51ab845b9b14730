//! Reads the progress of a migration outside a transaction, and emits it as events.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use diesel::Connection;
use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::query_builder::Query;

use super::event::MigrationEvent;
use super::index_progress::{MigrationProgress, ProgressOf, Row};
use super::settings::Settings;
use crate::session::{BackgroundThread, Driver, SyncDriver, run_ready};
use crate::source::{Connector, WatcherSource};

/// The pause before the first read, and between two.
const PAUSE: Duration = Duration::from_secs(1);

/// Reads the progress until it is dropped.
///
/// Its thread has a connection of its own: the watcher's must be free to signal. A source that
/// gives none, or late, delays neither the migration nor its end.
pub(crate) struct ProgressReader {
    _thread: BackgroundThread<()>,
}

impl ProgressReader {
    /// Starts to read the progress of this session, if there is a listener for it.
    pub(crate) fn start<S: WatcherSource>(
        source: &Arc<S>,
        settings: &Settings,
        name: &str,
        pid: i32,
    ) -> Option<Self> {
        settings.on_event.as_ref()?;
        let (connect, settings, name) = (source.connector(), settings.clone(), name.to_owned());
        let thread = BackgroundThread::start("pglock progress", move |stopping| {
            read(&connect, &settings, &name, pid, stopping);
        });
        thread.ok().map(|thread| Self { _thread: thread })
    }
}

/// Emits the progress whenever it has changed.
fn read<C>(
    connect: &Connector<C>,
    settings: &Settings,
    name: &str,
    pid: i32,
    stopping: &Receiver<()>,
) where
    C: Connection<Backend = Pg> + LoadConnection,
{
    let is_running = || stopping.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout);
    if !is_running() {
        return;
    }
    let Ok(mut conn) = connect() else {
        return;
    };
    let mut last = None;
    loop {
        type Columns = <ProgressOf as Query>::SqlType;
        let mut driver = SyncDriver(&mut conn);
        let read = run_ready(driver.load::<_, Columns, Row>(ProgressOf(pid)));
        let has_ended = stopping.try_recv() != Err(TryRecvError::Empty);
        let (Ok(rows), false) = (read, has_ended) else {
            return;
        };
        let progress = rows
            .into_iter()
            .next()
            .map(|row| MigrationProgress::of(name, row));
        if progress != last {
            if let Some(progress) = progress.clone() {
                settings.emit(&MigrationEvent::Progress(progress));
            }
            last = progress;
        }
        if !is_running() {
            return;
        }
    }
}
