//! The temporary directory with all files of a server.

use std::env;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};

use crate::SandboxError;
use crate::account::Account;
use crate::error::During;

/// The longest base directory: a socket's path has at most 103 bytes on macOS, 107 on Linux.
const LONGEST_BASE: usize = 103 - "/pglock-0123456789abcdef/.s.PGSQL.65535".len();

/// The number of log lines in an error.
const TAIL: usize = 20;

/// A directory with a random name, open to one account only, removed on drop.
#[derive(Debug)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    /// Creates the directory for the account that will run the server.
    pub(crate) fn create(account: Option<&Account>) -> Result<Self, SandboxError> {
        let path = base(account).join(format!("pglock-{}", random_hex(8)?));
        let action = || format!("create `{}`", path.display());
        DirBuilder::new().mode(0o700).create(&path).during(action)?;
        let directory = Self(path);
        directory.give_to(account, &directory.0)?;
        Ok(directory)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("server.log")
    }

    /// Writes a file that the account can read.
    pub(crate) fn write(
        &self,
        name: &str,
        text: &str,
        account: Option<&Account>,
    ) -> Result<(), SandboxError> {
        let path = self.0.join(name);
        fs::write(&path, text).during(|| format!("write `{}`", path.display()))?;
        self.give_to(account, &path)
    }

    /// Returns the text of a file; empty if the server has not written it yet.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap_or_default()
    }

    /// Returns the last lines of the server's log.
    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log); // messages have the server's encoding
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }

    fn give_to(&self, account: Option<&Account>, path: &Path) -> Result<(), SandboxError> {
        let Some(account) = account else {
            return Ok(());
        };
        let action = || format!("give `{}` to `{}`", path.display(), account.name);
        chown(path, Some(account.uid), Some(account.gid)).during(action)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // The supervisor removes it too, so it may be gone already.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Returns `TMPDIR`, or `/tmp` if that is too long for a socket or closed to the account.
fn base(account: Option<&Account>) -> PathBuf {
    let preferred = env::temp_dir();
    let short = preferred.as_os_str().len() <= LONGEST_BASE;
    let usable = account.is_none_or(|account| account.may_create_in(&preferred));
    if short && usable && preferred.is_absolute() {
        preferred
    } else {
        PathBuf::from("/tmp")
    }
}

/// Returns this number of random bytes in hexadecimal.
pub(crate) fn random_hex(bytes: usize) -> Result<String, SandboxError> {
    let random = read_random(bytes).during(|| "read `/dev/urandom`".to_owned())?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn read_random(bytes: usize) -> io::Result<Vec<u8>> {
    let mut random = vec![0; bytes];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(random)
}
