//! The PostgreSQL server: found, or installed by root.

use pglock_sandbox::{SandboxError, find_postgres};

use crate::{Result, debian};

/// Ensures that a PostgreSQL server is installed.
///
/// Installs it as root on Debian and related distributions. Elsewhere the error names the
/// packages to install.
pub fn ensure() -> Result<()> {
    match find_postgres() {
        Ok(_) => Ok(()),
        Err(SandboxError::NotInstalled) if debian::may_install() => {
            debian::install(&["postgresql"])?;
            find_postgres()?;
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}
