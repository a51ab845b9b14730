//! A connection that is opened again after a failure.

use diesel::PgConnection;

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

    /// Queries the server, on a new connection if the last query failed.
    pub fn query<T>(
        &mut self,
        f: impl FnOnce(&mut PgConnection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.database.connect()?,
        };
        let answer = f(&mut conn)?;
        self.conn = Some(conn);
        Ok(answer)
    }
}
