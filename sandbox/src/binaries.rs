//! The folders of PostgreSQL's programs.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::SandboxError;
use crate::error::During;

/// The folders in which distributions keep versions: a parent folder, and the prefix of a version.
const VERSIONED: [(&str, &str); 3] = [
    ("/usr/lib/postgresql", ""),
    ("/opt/homebrew/opt", "postgresql@"),
    ("/usr/local/opt", "postgresql@"),
];

/// Returns the folder of the server programs that [`Sandbox::start`](crate::Sandbox::start) uses.
///
/// Searches `$PGLOCK_PG_BINDIR`, which must hold a server if it is set, then `PATH`, then
/// the folders of distributions, the newest version first.
///
/// # Errors
///
/// [`NotInstalled`](SandboxError::NotInstalled), which names the packages to install, and
/// [`NotAServer`](SandboxError::NotAServer) if `$PGLOCK_PG_BINDIR` has no server.
pub fn find_postgres() -> Result<PathBuf, SandboxError> {
    if let Some(dir) = env::var_os("PGLOCK_PG_BINDIR").filter(|dir| !dir.is_empty()) {
        return require(Path::new(&dir));
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = env::split_paths(&path).chain(versioned());
    dirs.into_iter()
        .filter(|dir| dir.is_absolute())
        .find(|dir| holds_a_server(dir))
        .ok_or(SandboxError::NotInstalled)
}

/// Returns the absolute path of a folder, and fails if it holds no server.
pub(crate) fn require(dir: &Path) -> Result<PathBuf, SandboxError> {
    if !holds_a_server(dir) {
        return Err(SandboxError::NotAServer(dir.to_owned()));
    }
    dir.canonicalize()
        .during(|| format!("find `{}`", dir.display()))
}

/// Returns the folder of libraries beside the programs, which relocated programs cannot find
/// themselves.
pub(crate) fn library_path(bin_dir: &Path) -> Option<PathBuf> {
    let lib = bin_dir.parent()?.join("lib");
    let is_libpq = |name: &OsStr| name.to_string_lossy().starts_with("libpq.so");
    let mut entries = fs::read_dir(&lib).ok()?.flatten();
    entries
        .any(|entry| is_libpq(&entry.file_name()))
        .then_some(lib)
}

fn holds_a_server(dir: &Path) -> bool {
    ["initdb", "postgres"]
        .iter()
        .all(|program| dir.join(program).is_file())
}

fn versioned() -> Vec<PathBuf> {
    let mut found: Vec<_> = VERSIONED
        .iter()
        .flat_map(|(parent, prefix)| versions_in(parent, prefix))
        .collect();
    found.sort();
    found.into_iter().rev().map(|(_, dir)| dir).collect()
}

fn versions_in(parent: &str, prefix: &str) -> Vec<(u32, PathBuf)> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let version = entry
                .file_name()
                .to_str()?
                .strip_prefix(prefix)?
                .parse()
                .ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect()
}
