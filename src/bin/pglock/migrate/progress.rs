//! What a migration run shows on its way: lines, and on a terminal a last one that moves.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use diesel_pglock::{HarnessReport, MigrationEvent, MigrationReport, PrioritizerEvent};

use crate::output::{Screen, show};
use crate::output::{clean, cut};
use diesel_pglock::internal::format_duration;

const TICK: Duration = Duration::from_millis(100);
const ERASE: &str = "\r\u{1b}[K";

/// A display that stops when it is dropped.
#[derive(Debug)]
pub struct Progress {
    teller: Teller,
    ended: Arc<AtomicBool>,
    ticker: Option<JoinHandle<()>>,
}

/// Tells events; on the watcher's thread too.
#[derive(Clone, Debug)]
pub struct Teller {
    /// The terminal's width, if there is one to draw on.
    width: Option<usize>,
    now: Arc<Mutex<Option<(String, Instant)>>>,
}

impl Progress {
    pub fn start(screen: &Screen) -> Self {
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let width = screen.width.filter(|_| !is_dumb);
        let teller = Teller {
            width,
            now: Arc::default(),
        };
        let ended = Arc::new(AtomicBool::new(false));
        let ticker = width.map(|_| {
            let (teller, ended) = (teller.clone(), Arc::clone(&ended));
            thread::spawn(move || {
                while !ended.load(Ordering::SeqCst) {
                    teller.write("");
                    thread::sleep(TICK);
                }
            })
        });
        Self {
            teller,
            ended,
            ticker,
        }
    }

    pub fn teller(&self) -> Teller {
        self.teller.clone()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        if let Some(ticker) = self.ticker.take() {
            // It only draws; what it drew is erased.
            let _ = ticker.join();
            self.teller.now_is(None);
            self.teller.write("");
        }
    }
}

impl Teller {
    pub fn tell(&self, event: &MigrationEvent) {
        match event {
            MigrationEvent::WaitingForInstance => self.now_is(Some("another runner".to_owned())),
            MigrationEvent::ReadingHistory { .. } => {
                self.now_is(Some("the history of migrations".to_owned()));
            }
            MigrationEvent::Running { name, .. } => self.now_is(Some(clean(name))),
            MigrationEvent::Finished(_) => self.now_is(None),
            _ => {}
        }
        if let Some(line) = line(event) {
            self.write(&(clean_indented(&line) + "\n"));
        }
    }

    fn now_is(&self, what: Option<String>) {
        let now = what.map(|what| (what, Instant::now()));
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// Writes a line, and below it on a terminal what goes on now.
    ///
    /// A migration is not given up because nobody reads about it.
    fn write(&self, line: &str) {
        let Some(width) = self.width else {
            let _ = show(line);
            return;
        };
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let now = now.as_ref().map_or(String::new(), |(what, since)| {
            let since = TimeDelta::from_std(since.elapsed()).unwrap_or_default();
            cut(
                &format!("… {what} {}", format_duration(since)),
                width.saturating_sub(1),
            )
        });
        let _ = show(&format!("{ERASE}{line}{now}"));
    }
}

fn line(event: &MigrationEvent) -> Option<String> {
    Some(match event {
        MigrationEvent::WaitingForInstance => "waiting for another runner".to_owned(),
        MigrationEvent::ReadingHistory { attempt: 1, .. } => {
            "waiting for the history of migrations".to_owned()
        }
        MigrationEvent::ReadingHistory { attempt, .. } => {
            format!("waiting for the history of migrations, attempt {attempt}")
        }
        MigrationEvent::Running {
            name, attempt: 1, ..
        } => format!("running {name}"),
        MigrationEvent::Running { name, attempt, .. } => {
            format!("running {name}, attempt {attempt}")
        }
        MigrationEvent::Prioritizer(PrioritizerEvent::Blocked(blocker)) => {
            format!("  blocked by {blocker}")
        }
        MigrationEvent::Prioritizer(PrioritizerEvent::Signalled {
            blocker, signal, ..
        }) => {
            let pid = blocker.pid.unwrap_or(signal.pid);
            format!("  {} {}: {}", signal.kind, pid, signal.outcome)
        }
        MigrationEvent::Prioritizer(PrioritizerEvent::WatcherFailed(error)) => {
            format!("  the watcher failed: {error}")
        }
        MigrationEvent::Retrying { after, error, .. } => {
            format!(
                "  failed: {error}; trying again in {} ms",
                after.as_millis()
            )
        }
        MigrationEvent::Warning(warning) => format!("  warning: {warning}"),
        MigrationEvent::Finished(report) => report.to_string(),
        _ => return None,
    })
}

fn clean_indented(line: &str) -> String {
    let indent = if line.starts_with("  ") { "  " } else { "" };
    format!("{indent}{}", clean(line))
}

/// What was done in all.
pub fn summary(report: &HarnessReport, reverted: bool) -> String {
    let done = |it: &&MigrationReport| it.succeeded;
    let (all, count) = (
        &report.migrations,
        report.migrations.iter().filter(done).count(),
    );
    let mut text = String::new();
    for migration in all {
        for lock in &migration.locks {
            let (name, relation) = (clean(&migration.name), clean(&lock.relation.to_string()));
            text += &format!("{name} locked {relation} in {} mode\n", lock.mode);
        }
    }
    let of_history = report.history_blockers.iter().filter(|it| it.is_victim());
    let victims = all.iter().flat_map(MigrationReport::victims);
    let victims = victims.chain(of_history).count();
    let waited: Duration = all.iter().map(|it| it.waited).sum();
    let what = if reverted { "reverted" } else { "run" };
    text += &match (count, all.len() - count) {
        (0, 0) if reverted => "nothing to revert".to_owned(),
        (0, 0) => "nothing to run".to_owned(),
        (count, 0) => format!("{count} {what}"),
        (count, failed) => format!("{count} {what}, {failed} failed"),
    };
    if victims > 0 {
        text += &format!(", {victims} moved out of the way");
    }
    if let Ok(waited @ 1..) = i64::try_from(waited.as_millis()) {
        text += &format!(
            ", {} waiting for locks",
            format_duration(TimeDelta::milliseconds(waited))
        );
    }
    text + "\n"
}
