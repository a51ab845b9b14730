//! The progress of a migration run: a line for each event, and on a terminal a line that is
//! redrawn with the current step and its duration.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use diesel_pglock::MigrationEvent;
use diesel_pglock::internal::format_duration;

use super::event_line::line;
use crate::output::{Screen, show};
use crate::output::{clean, cut};

/// The pause between two redraws.
const TICK: Duration = Duration::from_millis(100);
/// Erases the current line of a terminal.
const ERASE: &str = "\r\u{1b}[K";

/// A display that stops when it is dropped.
#[derive(Debug)]
pub struct Progress {
    writer: EventWriter,
    ended: Arc<AtomicBool>,
    ticker: Option<JoinHandle<()>>,
}

/// Writes events, from the watcher's thread too.
#[derive(Clone, Debug)]
pub struct EventWriter {
    /// The terminal's width; `None` if the output cannot be redrawn.
    width: Option<usize>,
    step: Arc<Mutex<Option<Step>>>,
    /// The line before the first event, until it is written.
    header: Arc<Mutex<Option<String>>>,
}

/// The current step of the run.
#[derive(Debug)]
struct Step {
    name: String,
    started: Instant,
    /// The server's report of it, if there is one.
    progress: String,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let elapsed = TimeDelta::from_std(self.started.elapsed()).unwrap_or_default();
        let elapsed = format_duration(elapsed);
        write!(f, "… {} {elapsed}{}", self.name, self.progress)
    }
}

impl Progress {
    /// Starts a display, which is redrawn if the output is a terminal.
    pub fn start(screen: &Screen, pid: i32) -> Self {
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let width = screen.width.filter(|_| !is_dumb);
        let writer = EventWriter {
            width,
            step: Arc::default(),
            header: Arc::new(Mutex::new(Some(format!("migrating as pid {pid}\n")))),
        };
        let ended = Arc::new(AtomicBool::new(false));
        let ticker = width.map(|_| redraw(writer.clone(), Arc::clone(&ended)));
        Self {
            writer,
            ended,
            ticker,
        }
    }

    /// Returns a writer for the events.
    pub fn writer(&self) -> EventWriter {
        self.writer.clone()
    }
}

fn redraw(writer: EventWriter, ended: Arc<AtomicBool>) -> JoinHandle<()> {
    thread::spawn(move || {
        while !ended.load(Ordering::SeqCst) {
            writer.write("");
            thread::sleep(TICK);
        }
    })
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        if let Some(ticker) = self.ticker.take() {
            // A panic of the ticker loses no more than its line.
            let _ = ticker.join();
            self.writer.set_step(None);
            self.writer.write("");
        }
    }
}

impl EventWriter {
    /// Writes the line of an event, and notes the step that begins with it.
    pub fn emit(&self, event: &MigrationEvent) {
        let mut header = self.header.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(header) = header.take() {
            self.write(&header);
        }
        drop(header);
        match event {
            MigrationEvent::WaitingForInstance(_) => self.begin_step("another instance"),
            MigrationEvent::ReadingHistory { .. } => self.begin_step("the history of migrations"),
            MigrationEvent::Running { name, .. } => self.begin_step(&clean(name)),
            MigrationEvent::Finished(_) => self.set_step(None),
            MigrationEvent::Progress(progress) if self.width.is_some() => {
                self.note(&clean(&progress.to_string()));
                return self.write("");
            }
            _ => {}
        }
        if let Some(line) = line(event) {
            self.write(&(line + "\n"));
        }
    }

    fn begin_step(&self, name: &str) {
        self.set_step(Some(Step {
            name: name.to_owned(),
            started: Instant::now(),
            progress: String::new(),
        }));
    }

    /// Notes the progress of the step, which the redrawn line shows.
    fn note(&self, progress: &str) {
        let mut step = self.step.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(step) = step.as_mut() {
            step.progress = format!(" ({progress})");
        }
    }

    fn set_step(&self, step: Option<Step>) {
        *self.step.lock().unwrap_or_else(PoisonError::into_inner) = step;
    }

    /// Writes a line, and below it on a terminal the current step.
    ///
    /// Errors are ignored: a closed output does not end a migration.
    fn write(&self, line: &str) {
        let Some(width) = self.width else {
            let _ = show(line);
            return;
        };
        let step = self.step.lock().unwrap_or_else(PoisonError::into_inner);
        let step = step.as_ref().map(Step::to_string).unwrap_or_default();
        let step = cut(&step, width.saturating_sub(1));
        let _ = show(&format!("{ERASE}{line}{step}"));
    }
}
