//! The search for a libpq of the system.

use std::env;
use std::path::Path;
use std::process::Command;

use crate::command::succeeds;

/// Returns `true` if the machine has a libpq to link with, found as `pq-sys` finds it.
pub fn is_installed() -> bool {
    env::var_os("PQ_LIB_DIR").is_some()
        || succeeds(Command::new("pkg-config").args(["--exists", "libpq"]))
        || reported_by_pg_config()
}

/// Returns `true` if `pg_config` names a folder with libpq's library file.
///
/// `pg_config` is also installed without libpq's development files.
fn reported_by_pg_config() -> bool {
    let Ok(output) = Command::new("pg_config").arg("--libdir").output() else {
        return false;
    };
    let dir = String::from_utf8_lossy(&output.stdout);
    let names = ["libpq.so", "libpq.dylib", "libpq.a"];
    output.status.success()
        && names
            .iter()
            .any(|name| Path::new(dir.trim()).join(name).exists())
}
