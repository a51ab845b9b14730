//! Advisory locks on a server in recovery.

use diesel::PgConnection;
use diesel::prelude::*;
use diesel_pglock::Error;
use diesel_pglock::prelude::*;
use pglock_sandbox::Sandbox;

use crate::support::*;

#[test]
fn an_advisory_lock_on_a_standby_is_refused_unless_it_is_asked_for() {
    let server = Sandbox::start().unwrap();
    let signal = server.socket_dir().join("data/standby.signal");
    std::fs::write(signal, "").unwrap();
    server.restart().unwrap();
    wait_until("the standby accepts sessions", || {
        PgConnection::establish(&server.url()).is_ok()
    });
    let mut conn = PgConnection::establish(&server.url()).unwrap();
    let recovery = "SELECT pg_is_in_recovery()::int";
    assert_eq!(count(&mut conn, recovery), 1);
    let refused = conn.advisory(1).run(|_| Ok::<_, Error>(()));
    assert!(matches!(refused, Err(Error::InRecovery)), "{refused:?}");
    let refused = conn.advisory(1).xact().try_run(|_| Ok::<_, Error>(()));
    assert!(matches!(refused, Err(Error::InRecovery)), "{refused:?}");
    assert_eq!(advisory_locks(&mut conn), 0);
    let ran = conn.advisory(1).on_standby().run(|conn| {
        assert_eq!(advisory_locks(conn), 1);
        Ok::<_, Error>(())
    });
    ran.unwrap();
    assert_eq!(advisory_locks(&mut conn), 0);
}
