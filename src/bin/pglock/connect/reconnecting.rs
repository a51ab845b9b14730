//! A connection that is opened again after a failure.

use diesel::PgConnection;
use diesel::connection::{AnsiTransactionManager, SimpleConnection, TransactionManager};

use super::connection::Database;
use crate::failure::Failure;

/// A database, and the connection to it while there is one.
pub struct Reconnecting {
    /// `None` while the connection is lost.
    conn: Option<PgConnection>,
    database: Database,
}

impl Reconnecting {
    /// Starts without a connection if there is none yet.
    pub fn new(conn: Option<PgConnection>, database: Database) -> Self {
        Self { conn, database }
    }

    /// Queries the server, on a new connection if the last one was lost.
    ///
    /// A connection whose statement failed stays: a login may hang where it still answers.
    pub fn query<T>(
        &mut self,
        f: impl FnOnce(&mut PgConnection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.database.connect()?,
        };
        let answer = f(&mut conn);
        if answer.is_ok() || is_usable(&mut conn) {
            self.conn = Some(conn);
        }
        answer
    }
}

fn is_usable(conn: &mut PgConnection) -> bool {
    !AnsiTransactionManager::is_broken_transaction_manager(conn)
        && conn.batch_execute("SELECT 1").is_ok()
}
