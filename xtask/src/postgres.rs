//! PostgreSQL itself: found, or installed where that is ours to do.

use pglock_sandbox::{SandboxError, find_postgres};

use crate::{Result, debian};

/// Makes sure that there is a PostgreSQL server to run.
///
/// Installs it as root on Debian and its like; says what to install elsewhere.
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
