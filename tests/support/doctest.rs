// The hidden setup of the examples in the documentation: a fresh database.

#[allow(dead_code)]
mod doctest {
    use std::sync::OnceLock;

    use diesel::connection::SimpleConnection;
    use diesel::{Connection, PgConnection};

    /// The URL of a database of its own, on `PGLOCK_TEST_URL` or a throwaway server.
    pub fn database_url() -> &'static str {
        static URL: OnceLock<(String, Option<pglock_sandbox::Sandbox>)> = OnceLock::new();
        &URL.get_or_init(create).0
    }

    fn create() -> (String, Option<pglock_sandbox::Sandbox>) {
        let name = format!("doctest_{}", std::process::id());
        let (server, url, sandbox) = match std::env::var("PGLOCK_TEST_URL") {
            Ok(server) => {
                let url = pglock_sandbox::with_database(&server, &name);
                (server, url.expect("a URL"), None)
            }
            Err(_) => {
                let sandbox = pglock_sandbox::Sandbox::start().expect("a throwaway server");
                (sandbox.url(), sandbox.url_for(&name), Some(sandbox))
            }
        };
        let mut admin = PgConnection::establish(&server).expect("the server");
        admin
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .expect("a database");
        let mut conn = PgConnection::establish(&url).expect("the database");
        conn.batch_execute(
            "CREATE TABLE users (id serial PRIMARY KEY, name text NOT NULL);
             INSERT INTO users (name) VALUES ('Sean'), ('Tess')",
        )
        .expect("the table");
        (url, sandbox)
    }

    pub fn connection() -> PgConnection {
        PgConnection::establish(database_url()).expect("a session")
    }

    diesel::table! {
        users { id -> Integer, name -> Text, }
    }
}
#[allow(unused_imports)]
use doctest::{connection, database_url, users};
