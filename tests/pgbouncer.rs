//! A PgBouncer in front of the server that all tests share.

use std::sync::OnceLock;

use pglock_sandbox::{PgBouncer, SandboxError};

use crate::support::{Database, server, skipped};

/// Returns the URL of a database through it; `None` if the machine has no PgBouncer.
pub fn url(db: &Database) -> Option<String> {
    static BOUNCER: OnceLock<Option<PgBouncer>> = OnceLock::new();
    let bouncer = BOUNCER.get_or_init(|| match PgBouncer::start(server()) {
        Ok(bouncer) => Some(bouncer),
        Err(SandboxError::NoPgBouncer) => {
            skipped("the tests behind a pooler", "`pgbouncer`");
            None
        }
        Err(error) => panic!("{error:?}"),
    });
    let bouncer = bouncer.as_ref()?;
    Some(bouncer.url_for(&db.name))
}
