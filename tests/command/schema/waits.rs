//! Lists, trees and recordings of many kinds of waits.

use diesel::PgConnection;
use diesel::connection::SimpleConnection;
use pglock_sandbox::Sandbox;

use super::document::Document;
use super::recording;
use crate::command::Folder;
use crate::support::{Database, Waiting};

/// An update of a row, signed by its program.
const UPDATE: &str = "/*pga_context={\"job\": 1}*/ UPDATE users SET name = 'x' WHERE id = 1";

const PREPARE: &str = "BEGIN; LOCK posts IN ROW SHARE MODE; SELECT pg_advisory_xact_lock(8);
    PREPARE TRANSACTION 'order 8'";

/// Leaves read marks for a row and for a page of the index.
const READ: &str = "BEGIN ISOLATION LEVEL SERIALIZABLE; SET enable_seqscan = off;
    SELECT FROM users WHERE id = 2";

/// Waits for rows, pages, advisory locks, a prepared transaction and a schema, in two databases.
pub struct Scene {
    /// Its sessions come over TCP, and have addresses.
    pub database: Database,
    other: Database,
    holders: Vec<PgConnection>,
    _waiters: Vec<Waiting>,
}

impl Scene {
    fn new(server: &Sandbox) -> Self {
        let mut scene = Self {
            database: over_tcp(server),
            other: Database::on(server),
            holders: Vec::new(),
            _waiters: Vec::new(),
        };
        for sql in ["BEGIN", "BEGIN; CREATE TABLE made (i int)", PREPARE, READ] {
            scene.holders.push(scene.database.running(sql));
        }
        scene.holders[0].batch_execute(UPDATE).unwrap();
        let key = "SELECT pg_advisory_lock(1, 2)";
        scene.holders.push(scene.database.running(key));
        scene.holders.push(scene.other.running("BEGIN; LOCK users"));
        let wait = |sql| Waiting::on(&scene.database, sql);
        let mut waiters = vec![
            wait(UPDATE),
            wait(UPDATE),
            wait("CREATE INDEX CONCURRENTLY ON users (name)"),
            wait(key),
            wait("SELECT pg_advisory_lock(8)"),
            wait("DROP SCHEMA public CASCADE"),
        ];
        waiters.push(Waiting::on(&scene.other, "SELECT FROM users"));
        scene._waiters = waiters;
        scene
    }
}

/// Returns a new database with a URL of the loopback address.
pub fn over_tcp(server: &Sandbox) -> Database {
    let Database { name, .. } = Database::on(server);
    Database::in_place(server.tcp_url_for(&name), &name)
}

pub fn check(server: &Sandbox, document: &mut Document) {
    let scene = Scene::new(server);
    let keys = Folder::new().with("pglock.toml", "advisory_keys = [\"nightly report\"]");
    // A role to which the activity of others is hidden.
    let plain = Database::in_place(scene.other.role_url(), &scene.other.name);
    for database in [&scene.database, &scene.other, &plain] {
        for args in [&["ls"][..], &["--blocking"], &["--roots"]] {
            let args = [args, &["--limit", "1000"]].concat();
            document.check_run_in("list", &keys, database, &args);
        }
        document.check_run("list", database, &["-a", "pid,activity.query"]);
        document.check_run("tree", database, &["tree"]);
        document.check_run("who", database, &["who", "posts"]);
        document.check_run("config", database, &["config"]);
    }
    recording::check(&scene, document);
}
