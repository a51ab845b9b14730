//! A server whose messages are not English.

use std::sync::OnceLock;

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};
use pglock_sandbox::Sandbox;

use crate::support::{Database, skipped};

/// Returns a database there; `None` if the machine has no German.
pub fn database() -> Option<Database> {
    static SERVER: OnceLock<Option<Sandbox>> = OnceLock::new();
    let server = SERVER.get_or_init(start).as_ref();
    server.map(Database::on)
}

fn start() -> Option<Sandbox> {
    let locale = "de_DE.UTF-8";
    let server = Sandbox::builder().lc_messages(locale).start().ok();
    let server = server.filter(speaks_german);
    if server.is_none() {
        skipped(
            "the tests in German",
            "`locales-all` and PostgreSQL's translations",
        );
    }
    server
}

/// PostgreSQL may have been built, or installed, without its translations.
fn speaks_german(server: &Sandbox) -> bool {
    let mut conn = PgConnection::establish(&server.url()).expect("the server");
    let failed = conn.batch_execute("SELECT 1/0").unwrap_err();
    failed.to_string().contains("Division durch Null")
}
