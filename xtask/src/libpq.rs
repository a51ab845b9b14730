//! Whether there is a libpq to link with.

use std::env;
use std::path::Path;
use std::process::Command;

use crate::command::succeeds;

/// Tells whether the machine has libpq with what linking needs, as `pq-sys` looks for it.
pub fn is_installed() -> bool {
    env::var_os("PQ_LIB_DIR").is_some()
        || succeeds(Command::new("pkg-config").args(["--exists", "libpq"]))
        || reported_by_pg_config()
}

/// `pg_config` also comes without libpq's development files, so the file has to be there.
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
