//! Sessions in databases of other encodings, whose texts are not valid UTF-8.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_pglock::{BlockedPgLock, PgActivity, PgLock, PreparedTransaction, WaitGraph};
use pglock_sandbox::Sandbox;

use crate::support::*;

/// The encodings, each with a letter that takes several bytes in other encodings.
const ENCODINGS: [(&str, char); 4] = [
    ("UTF8", 'ä'),
    ("LATIN1", 'ä'),
    ("SQL_ASCII", 'ä'),
    ("EUC_JP", 'ひ'),
];

fn create(conn: &mut PgConnection, name: &str, encoding: &str) {
    conn.batch_execute(&format!(
        "CREATE DATABASE \"{name}\" TEMPLATE template0 ENCODING '{encoding}' \
         LC_COLLATE 'C' LC_CTYPE 'C'"
    ))
    .unwrap();
}

/// Returns the query of a session in `of`, as a session in `at` reads it.
fn expected(at: &str, (of, letter): (&str, char)) -> Option<String> {
    let utf8 = |encoding| matches!(encoding, "UTF8" | "SQL_ASCII");
    let letter = match letter {
        letter if at == of || utf8(at) && utf8(of) => letter.to_string(),
        'ä' if utf8(at) => "\u{fffd}".to_owned(),
        _ if utf8(at) => "\u{fffd}\u{fffd}".to_owned(),
        _ => return None,
    };
    Some(waits(&letter))
}

fn waits(letter: &str) -> String {
    format!(r"SELECT pg_advisory_xact_lock(7), '\{letter}\\ 100'")
}

#[test]
fn a_text_in_another_encoding_hides_no_other() {
    let server = Sandbox::start().unwrap();
    let mut admin = PgConnection::establish(&server.url()).unwrap();
    let mut sessions = Vec::new();
    for (encoding, letter) in ENCODINGS {
        create(&mut admin, encoding, encoding);
        let db = Database::in_place(server.url_for(encoding), encoding);
        let holder = db.running("BEGIN; SELECT pg_advisory_xact_lock(7)");
        let waiting = Waiting::on(&db, &waits(&letter.to_string()));
        sessions.push((db, (encoding, letter), waiting, holder));
    }
    for (db, (at, _), ..) in &sessions {
        let mut conn = db.connect();
        let locks: Vec<PgLock> = PgLock::query().load(&mut conn).unwrap();
        let blocked: Vec<BlockedPgLock> = BlockedPgLock::query().load(&mut conn).unwrap();
        assert_eq!(blocked.len(), ENCODINGS.len());
        let graph = WaitGraph::load(&mut conn).unwrap();
        let query = |activity: &Option<PgActivity>| activity.as_ref().unwrap().query.clone();
        for (_, of, waiting, _) in &sessions {
            let what = format!("{} seen from {at}", of.0);
            let lock = locks.iter().find(|it| it.pid == Some(waiting.pid)).unwrap();
            assert_eq!(query(&lock.activity), expected(at, *of), "{what}");
            let node = graph.node(waiting.pid).unwrap();
            assert_eq!(query(&node.activity), expected(at, *of), "{what}");
        }
    }
    for (.., waiting, mut holder) in sessions {
        holder.batch_execute("COMMIT").unwrap();
        waiting.finish().unwrap();
    }
}

#[test]
fn a_name_in_another_encoding_hides_no_other() {
    let server = Sandbox::start().unwrap();
    let mut admin = PgConnection::establish(&server.url()).unwrap();
    create(&mut admin, "latin", "LATIN1");
    let mut latin = PgConnection::establish(&server.url_for("latin")).unwrap();
    create(&mut latin, "ä", "LATIN1");
    let url = server.url_for("latin").replace("/latin", "/%E4");
    let mut there = PgConnection::establish(&url).unwrap();
    there
        .batch_execute("BEGIN; SELECT pg_advisory_xact_lock(7)")
        .unwrap();
    let mut prepared = PgConnection::establish(&url).unwrap();
    prepared
        .batch_execute("BEGIN; SELECT txid_current(); PREPARE TRANSACTION 'ü'")
        .unwrap();

    let there = pid(&mut there);
    let locks: Vec<PgLock> = PgLock::query().load(&mut admin).unwrap();
    let is_there = |lock: &&PgLock| lock.pid == Some(there) && lock.advisory_key.is_some();
    let lock = locks.iter().find(is_there).unwrap();
    assert_eq!(lock.database.as_deref(), Some("\u{fffd}"));
    let activity = lock.activity.as_ref().unwrap();
    assert_eq!(activity.database.as_deref(), Some("\u{fffd}"));
    let found: Vec<PreparedTransaction> = PreparedTransaction::query().load(&mut admin).unwrap();
    assert_eq!(
        (&*found[0].gid, &*found[0].database),
        ("\u{fffd}", "\u{fffd}")
    );
}
