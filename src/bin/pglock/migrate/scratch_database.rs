//! The scratch database of a plan: one that exists, or one that is made and dropped.

use std::process;
use std::sync::OnceLock;

use diesel::PgConnection;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::Text;

use crate::connect::Database;
use crate::failure::Failure;
use crate::output::print_error;

/// The scratch database, which is dropped with this value if it was made here.
#[derive(Debug)]
pub struct ScratchDatabase {
    pub database: Database,
    made: Option<Made>,
}

#[derive(Debug)]
struct Made {
    /// The database from whose server the scratch database is dropped.
    beside: Database,
    name: String,
}

/// The encoding and the locale of a database.
#[derive(QueryableByName)]
struct Locale {
    #[diesel(sql_type = Text)]
    encoding: String,
    #[diesel(sql_type = Text)]
    collate: String,
    #[diesel(sql_type = Text)]
    ctype: String,
}

const LOCALE: &str = "SELECT pg_catalog.pg_encoding_to_char(d.encoding)::pg_catalog.text AS encoding, \
    d.datcollate::pg_catalog.text AS collate, d.datctype::pg_catalog.text AS ctype \
    FROM pg_catalog.pg_database AS d \
    WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()";

impl ScratchDatabase {
    pub fn existing(database: Database) -> Self {
        let database = named(&database);
        Self {
            database,
            made: None,
        }
    }

    /// Makes a database on the server of another, with its encoding and its locale.
    pub fn make(conn: &mut PgConnection, beside: &Database) -> Result<Self, Failure> {
        let name = format!("pglock_scratch_{}_{:08x}", process::id(), nonce());
        let locale = diesel::sql_query(LOCALE).get_result::<Locale>(conn)?;
        let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let statement = format!(
            "CREATE DATABASE {name} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}",
            literal(&locale.encoding),
            literal(&locale.collate),
            literal(&locale.ctype)
        );
        // From here on it is dropped, even if the statement fails half way.
        let scratch = Self {
            database: named(&beside.with(&[("dbname", &name)])),
            made: Some(Made {
                beside: beside.clone(),
                name,
            }),
        };
        conn.batch_execute(&statement)?;
        Ok(scratch)
    }

    /// Returns the name that the sessions of the plan have.
    pub fn application_name() -> String {
        static NAME: OnceLock<String> = OnceLock::new();
        // Containers have processes with the same number.
        let make = || format!("pglock_plan_{}_{:08x}", process::id(), nonce());
        NAME.get_or_init(make).clone()
    }
}

fn named(database: &Database) -> Database {
    database.with(&[("application_name", &ScratchDatabase::application_name())])
}

/// Returns a number that another process on another machine does not use at the same time.
fn nonce() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_micros() as u32)
}

impl Drop for ScratchDatabase {
    fn drop(&mut self) {
        let Some(Made { beside, name }) = &self.made else {
            return;
        };
        // The sessions of a plan that was interrupted may still be there.
        let statement = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
        let dropped = beside
            .connect()
            .and_then(|mut conn| Ok(conn.batch_execute(&statement)?));
        if let Err(error) = dropped {
            print_error(&format!(
                "the scratch database `{name}` is still there: {error}"
            ));
        }
    }
}
