//! The account that runs the server if its owner is root.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::SandboxError;
use crate::error::During;

/// An unprivileged account: PostgreSQL refuses to run as root.
#[derive(Debug, PartialEq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Returns `true` if this process runs as root.
///
/// The standard library has no function for this, so `id -u` is run.
#[must_use]
pub fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|id| id.stdout.trim_ascii() == b"0")
}

impl Account {
    /// Returns the account that runs the server; `None` for an ordinary user.
    pub(crate) fn to_drop_to() -> Result<Option<Self>, SandboxError> {
        if !is_root() {
            return Ok(None);
        }
        let passwd =
            fs::read_to_string("/etc/passwd").during(|| "read `/etc/passwd`".to_owned())?;
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| Self::in_passwd(&passwd, name))
            .map(Some)
            .ok_or(SandboxError::NoAccount)
    }

    fn in_passwd(passwd: &str, name: &str) -> Option<Self> {
        let line = passwd
            .lines()
            .find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        let uid = fields.next()?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Self {
            name: name.to_owned(),
            uid,
            gid,
        })
    }

    /// Fails with a folder on the path to `path` that the account cannot enter.
    pub(crate) fn enter(&self, path: &Path) -> Result<(), SandboxError> {
        match path.ancestors().find(|folder| !self.may_search(folder)) {
            Some(closed) => Err(self.shut_out_of(closed.to_owned())),
            None => Ok(()),
        }
    }

    /// Returns `true` if the account can create and remove a folder in `path`.
    pub(crate) fn may_create_in(&self, path: &Path) -> bool {
        self.enter(path).is_ok() && self.permits(path, 0o3)
    }

    fn may_search(&self, folder: &Path) -> bool {
        self.permits(folder, 0o1)
    }

    fn permits(&self, path: &Path, bits: u32) -> bool {
        path.metadata()
            .is_ok_and(|metadata| self.permissions(&metadata) & bits == bits)
    }

    /// Returns the mode of a file, shifted so that the last three bits apply to the account.
    fn permissions(&self, file: &Metadata) -> u32 {
        if file.uid() == self.uid {
            file.mode() >> 6
        } else if file.gid() == self.gid {
            file.mode() >> 3
        } else {
            file.mode()
        }
    }

    fn shut_out_of(&self, path: PathBuf) -> SandboxError {
        SandboxError::NotAccessible {
            path,
            account: self.name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let passwd = "root:x:0:0::/root:/bin/sh\npostgres2:x:7:8::/:/bin/sh\npostgres:x:101:104:PostgreSQL,,,:/var:/bin/sh\n";
        let account = Account {
            name: "postgres".to_owned(),
            uid: 101,
            gid: 104,
        };
        assert_eq!(Account::in_passwd(passwd, "postgres"), Some(account));
        assert_eq!(Account::in_passwd(passwd, "nobody"), None);
    }
}
