//! A hot standby of a throwaway server.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use diesel::PgConnection;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::Text;
use pglock_sandbox::Sandbox;

use super::wait_until;

/// Starts a server that replays what `primary` writes, and waits for its sessions for ever.
///
/// It starts as a server of its own, whose data is then replaced by a copy.
pub fn standby_of(primary: &Sandbox) -> Sandbox {
    let standby = Sandbox::builder()
        .setting("max_standby_streaming_delay", "-1")
        .start()
        .unwrap();
    let (own, copy) = (standby.socket_dir(), standby.socket_dir().join("copy"));
    back_up(primary, &copy);
    let conninfo = format!(
        "primary_conninfo = 'host={} port={} user=postgres'\n",
        primary.socket_dir().display(),
        primary.port()
    );
    append(&copy.join("postgresql.auto.conf"), &conninfo);
    write(&copy.join("standby.signal"), "");
    // By this file the supervisor knows the server that it stops.
    let running = fs::read_to_string(own.join("data/postmaster.pid")).unwrap();
    write(&copy.join("postmaster.pid"), &running);
    fs::rename(own.join("data"), own.join("replaced")).unwrap();
    fs::rename(&copy, own.join("data")).unwrap();
    standby.restart().unwrap();
    wait_until("the standby accepts sessions", || {
        PgConnection::establish(&standby.url()).is_ok()
    });
    standby
}

/// Copies the data of a running server.
fn back_up(server: &Sandbox, copy: &Path) {
    let mut conn = PgConnection::establish(&server.url()).unwrap();
    let (start, stop) = if server.version() < 15 {
        (
            "pg_start_backup('copy', true, false)",
            "pg_stop_backup(false)",
        )
    } else {
        ("pg_backup_start('copy', true)", "pg_backup_stop(false)")
    };
    conn.batch_execute(&format!("SELECT {start}")).unwrap();
    let data = server.socket_dir().join("data");
    let copied = Command::new("cp").arg("-a").arg(data).arg(copy).status();
    assert!(copied.unwrap().success());
    let label = diesel::dsl::sql::<Text>(&format!("(SELECT labelfile FROM {stop})"));
    let label: String = diesel::select(label).get_result(&mut conn).unwrap();
    write(&copy.join("backup_label"), &label);
}

fn append(file: &Path, text: &str) {
    let before = fs::read_to_string(file).unwrap_or_default();
    write(file, &(before + text));
}

/// Writes a file of the server, which may run as another user.
fn write(file: &Path, text: &str) {
    fs::write(file, text).unwrap();
    let owner = fs::metadata(file.parent().unwrap()).unwrap();
    std::os::unix::fs::chown(file, Some(owner.uid()), Some(owner.gid())).unwrap();
}

/// Waits until the standby has replayed what the primary wrote.
pub fn await_replay(primary: &mut PgConnection, standby: &mut PgConnection) {
    let position = diesel::dsl::sql::<Text>("pg_current_wal_flush_lsn()::text");
    let position: String = diesel::select(position).get_result(primary).unwrap();
    let replayed = format!("SELECT (pg_last_wal_replay_lsn() >= '{position}'::pg_lsn)::int");
    wait_until("the standby has replayed", || {
        super::count(standby, &replayed) == 1
    });
}
