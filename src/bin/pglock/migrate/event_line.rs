//! The line that shows an event of a migration run.

use diesel_pglock::{MigrationEvent, PrioritizerEvent};

use crate::output::clean;

/// Returns the line of an event, indented below its migration; `None` for an unknown event.
pub fn line(event: &MigrationEvent) -> Option<String> {
    match event {
        MigrationEvent::Prioritizer(event) => Some(indented(&prioritizer_line(event)?)),
        MigrationEvent::Retrying { after, error, .. } => {
            let after = after.as_millis();
            Some(indented(&format!(
                "failed: {error}; trying again in {after} ms"
            )))
        }
        MigrationEvent::Progress(progress) => Some(indented(&progress.to_string())),
        MigrationEvent::Warning(warning) => Some(indented(&format!("warning: {warning}"))),
        event => Some(clean(&step_line(event)?)),
    }
}

fn step_line(event: &MigrationEvent) -> Option<String> {
    match event {
        MigrationEvent::WaitingForInstance(wait) => Some(wait.to_string()),
        MigrationEvent::ReadingHistory { attempt, .. } => Some(numbered(
            "waiting for the history of migrations".to_owned(),
            *attempt,
        )),
        MigrationEvent::Running { name, attempt, .. } => {
            Some(numbered(format!("running {name}"), *attempt))
        }
        MigrationEvent::Finished(report) => Some(report.to_string()),
        _ => None,
    }
}

fn prioritizer_line(event: &PrioritizerEvent) -> Option<String> {
    match event {
        PrioritizerEvent::Blocked(blocker) => Some(format!("blocked by {blocker}")),
        PrioritizerEvent::Signalled {
            blocker, signal, ..
        } => {
            let pid = blocker.pid.unwrap_or(signal.pid);
            Some(format!("{} {pid}: {}", signal.kind, signal.outcome))
        }
        PrioritizerEvent::WatcherFailed(error) => Some(format!("the watcher failed: {error}")),
        _ => None,
    }
}

/// Appends the number of every attempt but the first.
fn numbered(line: String, attempt: u32) -> String {
    if attempt == 1 {
        line
    } else {
        format!("{line}, attempt {attempt}")
    }
}

fn indented(line: &str) -> String {
    format!("  {}", clean(line))
}
