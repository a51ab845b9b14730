//! Settings of a server before its start.

use std::path::PathBuf;

use crate::{Sandbox, SandboxError};

/// The settings of a throwaway server; returned by [`Sandbox::builder`].
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until `start` is called"]
pub struct SandboxBuilder {
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) bin_dir: Option<PathBuf>,
}

impl SandboxBuilder {
    /// Sets a server setting, as in `postgresql.conf`.
    ///
    /// The last value of a setting applies. The address, socket and port cannot be set.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Uses `initdb` and `postgres` of this folder, without a search.
    pub fn bin_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.bin_dir = Some(dir.into());
        self
    }

    /// Sets the language of the server's messages; default: `C`, which is English.
    ///
    /// The locale must exist on the machine.
    pub fn lc_messages(self, locale: impl Into<String>) -> Self {
        self.setting("lc_messages", locale)
    }

    /// Starts the server and waits until it accepts connections, which takes about a second.
    ///
    /// # Errors
    ///
    /// See [`SandboxError`]; if the server itself failed, the error has the end of its log.
    pub fn start(self) -> Result<Sandbox, SandboxError> {
        Sandbox::launch(self)
    }
}
