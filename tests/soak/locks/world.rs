//! The server of the soak, its tables, and the roles of the sessions.

use diesel::connection::SimpleConnection;
use diesel::query_builder::SqlQuery;
use diesel::sql_types::Text;
use diesel::{PgConnection, sql_query};
use diesel_pglock::LockMonitor;
use pglock_sandbox::Sandbox;

use super::step::KEYS;
use crate::soak::journal::Journal;
use crate::support::Database;

/// A role, with its privileges and settings.
#[derive(Clone, Copy, Debug)]
pub struct Role {
    pub name: &'static str,
    pub statement_timeout: &'static str,
    pub lock_timeout: &'static str,
}

/// The roles that the connections of each kind log in as.
pub const ROLES: [Role; 4] = [
    // May do everything.
    Role {
        name: "soak_owner",
        statement_timeout: "0",
        lock_timeout: "0",
    },
    // Has rights on the parent table alone, and may not end sessions.
    Role {
        name: "soak_plain",
        statement_timeout: "25s",
        lock_timeout: "5s",
    },
    // May in addition neither release advisory locks nor read them.
    Role {
        name: "soak_poor",
        statement_timeout: "20s",
        lock_timeout: "0",
    },
    // Has hardly any time.
    Role {
        name: "soak_hasty",
        statement_timeout: "2ms",
        lock_timeout: "1s",
    },
];

/// The role of the monitors.
const MONITOR: &str = "soak_monitor";

pub struct World {
    // The sessions end before the server does.
    pub monitor: LockMonitor<String>,
    pub db: Database,
    pub journal: Journal,
    _server: Sandbox,
}

impl World {
    pub fn new(journal: Journal) -> Self {
        let server = Sandbox::builder()
            .setting("deadlock_timeout", "20ms")
            .setting("statement_timeout", "30s");
        let server = server.start().expect("a throwaway server");
        let db = Database::on(&server);
        db.running(&setup());
        Self {
            monitor: LockMonitor::new(url(&db, MONITOR)),
            db,
            journal,
            _server: server,
        }
    }

    /// Opens a session that is not disturbed.
    pub fn observer(&self) -> PgConnection {
        let mut conn = self.db.connect();
        let unlimited = "SET statement_timeout = 0";
        conn.batch_execute(unlimited).expect(unlimited);
        conn
    }

    /// Returns the URL by which a role logs in.
    pub fn url(&self, role: Role) -> String {
        url(&self.db, role.name)
    }
}

fn url(db: &Database, role: &str) -> String {
    db.url.replacen("postgres@", &format!("{role}@"), 1)
}

/// Two accounts per key, a table with partitions, the tokens, and the roles.
fn setup() -> String {
    let roles: Vec<_> = ROLES.iter().map(create_role).collect();
    format!(
        "CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL);
         INSERT INTO accounts SELECT id, 1000 FROM generate_series(0, {accounts}) AS id;
         CREATE TABLE tokens (id bigserial PRIMARY KEY, key int NOT NULL, token text NOT NULL);
         CREATE TABLE ledger (id int) PARTITION BY HASH (id);
         CREATE TABLE ledger_0 PARTITION OF ledger FOR VALUES WITH (MODULUS 2, REMAINDER 0);
         CREATE TABLE ledger_1 PARTITION OF ledger FOR VALUES WITH (MODULUS 2, REMAINDER 1);
         {roles}
         CREATE ROLE {MONITOR} LOGIN;
         GRANT ALL ON accounts, tokens, ledger TO PUBLIC;
         GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO PUBLIC;
         ALTER ROLE soak_owner SUPERUSER;
         ALTER ROLE soak_hasty SUPERUSER;
         REVOKE EXECUTE ON FUNCTION pg_terminate_backend FROM PUBLIC;
         REVOKE SELECT ON pg_locks FROM PUBLIC;
         GRANT SELECT ON pg_locks TO soak_plain, {MONITOR};
         {REVOKE_UNLOCK}",
        accounts = 2 * KEYS - 1,
        roles = roles.concat(),
    )
}

fn create_role(role: &Role) -> String {
    let Role {
        name,
        statement_timeout,
        lock_timeout,
    } = role;
    format!(
        "CREATE ROLE {name} LOGIN;
         ALTER ROLE {name} SET statement_timeout = '{statement_timeout}';
         ALTER ROLE {name} SET lock_timeout = '{lock_timeout}';"
    )
}

const REVOKE_UNLOCK: &str = "
    REVOKE EXECUTE ON FUNCTION pg_advisory_unlock(int, int),
        pg_advisory_unlock_shared(int, int) FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION pg_advisory_unlock(int, int),
        pg_advisory_unlock_shared(int, int) TO soak_plain";

diesel::table! {
    ledger (id) { id -> Integer, }
}

/// The settings of a session that calls change for a time.
#[derive(Clone, Debug, PartialEq, diesel::QueryableByName)]
pub struct Settings {
    #[diesel(sql_type = Text)]
    statement_timeout: String,
    #[diesel(sql_type = Text)]
    lock_timeout: String,
    #[diesel(sql_type = Text)]
    idle_timeout: String,
}

impl Settings {
    pub fn query() -> SqlQuery {
        sql_query(
            "SELECT current_setting('statement_timeout') AS statement_timeout,
                current_setting('lock_timeout') AS lock_timeout,
                current_setting('idle_in_transaction_session_timeout') AS idle_timeout",
        )
    }

    /// Returns the settings with which a role logs in.
    pub fn of(role: Role) -> Self {
        Self {
            statement_timeout: role.statement_timeout.to_owned(),
            lock_timeout: role.lock_timeout.to_owned(),
            idle_timeout: "0".to_owned(),
        }
    }
}
