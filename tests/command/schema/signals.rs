//! Signals, and their log.

use diesel::PgConnection;
use pglock_sandbox::Sandbox;

use super::document::Document;
use super::waits::over_tcp;
use crate::command::named;
use crate::support::{Database, Waiting};
use diesel::connection::SimpleConnection;

const SIGNAL: [&str; 5] = ["--roots", "--on", "users", "--terminate", "--yes"];

fn holding(database: &Database) -> PgConnection {
    let mut holder = named(database, "holder");
    holder.batch_execute("BEGIN; LOCK TABLE users").unwrap();
    holder
}

pub fn check(server: &Sandbox, document: &mut Document) {
    let database = over_tcp(server);
    document.check_run("migrate", &database, &["migrate", "install"]);
    let _holder = holding(&database);
    let waiting = Waiting::on(&database, "SELECT FROM users");
    document.check_run(
        "signals",
        &database,
        &[&SIGNAL[..], &["--dry-run"]].concat(),
    );
    document.check_run("signals", &database, &SIGNAL);
    waiting.finish().unwrap();
    check_denied(server, document);
    check_unlogged(&database, document);
    document.check_run("log", &database, &["log"]);
}

fn check_denied(server: &Sandbox, document: &mut Document) {
    let database = Database::on(server);
    let _holder = holding(&database);
    let plain = Database::in_place(database.role_url(), &database.name);
    let args = ["--on", "users", "--terminate", "--yes"];
    document.check_run("signals", &plain, &args);
}

fn check_unlogged(database: &Database, document: &mut Document) {
    let _holder = holding(database);
    let _log = database.running("BEGIN; LOCK TABLE pglock.signal_log");
    let args = ["--on", "users", "--cancel", "--yes"];
    document.check_run("signals", database, &args);
}
