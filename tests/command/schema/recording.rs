//! The lines of `pglock watch --json`.

use std::thread;

use diesel::connection::SimpleConnection;

use super::document::Document;
use super::waits::Scene;
use crate::command::watch::Watch;
use crate::support::Waiting;

/// Records two episodes that become one, and a lost connection.
pub fn check(scene: &Scene, document: &mut Document) {
    let database = &scene.database;
    let watch = Watch::spawn(database, &["--json"]);
    let mut lines = watch.lines_until("\"merged_into\":null");
    let mut first = database.running("SELECT pg_advisory_lock(11)");
    let _second = database.running("SELECT pg_advisory_lock(12)");
    let _waiting = [11, 12].map(|key| {
        let waiting = Waiting::on(database, &format!("SELECT pg_advisory_lock({key})"));
        lines.extend(watch.lines_until(&format!("advisory lock {key}\"")));
        waiting
    });
    let _joining = thread::spawn(move || first.batch_execute("SELECT pg_advisory_lock(12)"));
    let merged = watch.lines_until("\"event\":\"ended\"");
    assert!(
        !merged.last().unwrap().contains("\"merged_into\":null"),
        "{merged:?}"
    );
    lines.extend(merged);
    database.running(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pglock'",
    );
    lines.extend(watch.lines_until("\"event\":\"connected\""));
    let (code, rest) = watch.end();
    assert_eq!(code, Some(0));
    assert!(
        rest.last().unwrap().contains("\"event\":\"stopped\""),
        "{rest:?}"
    );
    for line in lines.iter().chain(&rest) {
        document.check("watch", line);
    }
}
