//! The waits of the server, without names while a session locks a catalog.

use diesel::PgConnection;
use diesel::connection::{Connection, SimpleConnection};
use diesel_pglock::WaitGraph;

use crate::failure::Failure;
use crate::output::note;

/// The time that a statement waits for a catalog before it is given up.
const LOCK_CATALOG: &str = "SET LOCAL lock_timeout = '1s'";

/// The waits, and the reason that kept the names of relations from being read.
#[derive(Debug)]
pub struct Waits {
    pub graph: WaitGraph,
    pub nameless: Option<String>,
}

impl Waits {
    /// Loads the waits within a transaction, which stays usable.
    pub fn load(conn: &mut PgConnection) -> Result<Self, Failure> {
        let failure = match within_savepoint(conn, |conn| Ok(WaitGraph::load(conn)?)) {
            Ok(graph) => {
                let nameless = None;
                return Ok(Self { graph, nameless });
            }
            Err(failure @ Failure::Connection(_)) => return Err(failure),
            Err(failure) => failure,
        };
        let graph = within_savepoint(conn, |conn| Ok(WaitGraph::load_without_names(conn)?));
        // What fails for another reason fails again, and the first error tells it.
        let Ok(graph) = graph else {
            return Err(failure);
        };
        let nameless = Some(format!("a session may have locked a catalog ({failure})"));
        Ok(Self { graph, nameless })
    }

    /// Returns the graph, and prints what it lacks.
    pub fn noted(self) -> Result<WaitGraph, Failure> {
        if let Some(reason) = self.nameless {
            note(&format!("no names of relations: {reason}\n"))?;
        }
        Ok(self.graph)
    }
}

/// Runs statements that wait a short time for catalogs, in a savepoint of their own.
fn within_savepoint<T>(
    conn: &mut PgConnection,
    f: impl FnOnce(&mut PgConnection) -> Result<T, Failure>,
) -> Result<T, Failure> {
    conn.transaction(|conn| {
        conn.batch_execute(LOCK_CATALOG)?;
        f(conn)
    })
}
