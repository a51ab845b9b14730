//! The question of a monitor on a real server: a lock is found only with its own holder.

use chrono::TimeDelta;
use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};
use pglock_sandbox::Sandbox;

use super::hold::AdvisoryHold;
use super::lock_watch::{Holder, LockWatch, read_lock};
use super::monitor::LockMonitor;
use super::statement::AdvisoryTarget;
use crate::error::Error;
use crate::session::{SyncDriver, run_ready};
use crate::types::AdvisoryKey;

const MOMENT: TimeDelta = TimeDelta::microseconds(1);

#[test]
fn a_lock_is_found_only_with_the_session_and_the_server_that_have_it() {
    let server = Sandbox::start().unwrap();
    let connect = || PgConnection::establish(&server.url()).unwrap();
    let (mut conn, mut monitor) = (connect(), connect());
    conn.batch_execute("SELECT pg_advisory_lock(1)").unwrap();
    let holder = run_ready(Holder::identify(&mut SyncDriver(&mut conn))).unwrap();
    let target = AdvisoryTarget::new(AdvisoryKey::new(1));
    let mut read =
        |target, holder| run_ready(read_lock(&mut SyncDriver(&mut monitor), target, holder));

    assert_eq!(read(target, holder).unwrap(), (true, true));
    // The start of the session is hidden from some roles.
    let mut hidden = holder;
    hidden.session.backend_start = None;
    assert_eq!(read(target, hidden).unwrap(), (true, true));

    let mut predecessor = holder;
    predecessor.session.backend_start = holder.session.backend_start.map(|start| start - MOMENT);
    assert_eq!(read(target, predecessor).unwrap(), (true, false));
    let mut before_restart = holder;
    before_restart.session.server_start = holder.session.server_start - MOMENT;
    assert!(!read(target, before_restart).unwrap().0);

    let other_key = AdvisoryTarget::new(AdvisoryKey::new(2));
    assert_eq!(read(other_key, holder).unwrap(), (true, false));
    let shared = AdvisoryTarget {
        shared: true,
        ..target
    };
    assert_eq!(read(shared, holder).unwrap(), (true, false));
}

/// As behind a pooler in transaction mode, where each statement may reach another backend.
#[test]
fn a_token_of_another_backend_than_the_locks_is_refused() {
    let server = Sandbox::start().unwrap();
    let mut conn = PgConnection::establish(&server.url()).unwrap();
    let mut driver = SyncDriver(&mut conn);
    let holder = run_ready(Holder::identify(&mut driver)).unwrap();
    let hold = AdvisoryHold {
        target: AdvisoryTarget::new(AdvisoryKey::new(1)),
        backend: 1,
        depth: 0,
    };
    let settings = LockMonitor::new(()).settings();
    let begun = run_ready(LockWatch::begin(&mut driver, hold, holder, settings));
    assert!(matches!(
        begun.err(),
        Some(Error::SessionChanged { expected: 1, .. })
    ));
}
