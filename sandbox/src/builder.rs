//! Choices before a server starts.

use std::path::PathBuf;

use crate::{Sandbox, SandboxError};

/// Chooses how a throwaway server is set up; made by [`Sandbox::builder`].
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until `start` is called"]
pub struct SandboxBuilder {
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) bin_dir: Option<PathBuf>,
}

impl SandboxBuilder {
    /// Gives a server setting, as in `postgresql.conf`, a value of its own.
    ///
    /// The later one wins. Where the server listens is not up for choice.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Takes `initdb` and `postgres` from this folder instead of looking for them.
    pub fn bin_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.bin_dir = Some(dir.into());
        self
    }

    /// Chooses the language of the server's messages; default `C`, which is English.
    ///
    /// The locale has to exist on the machine.
    pub fn lc_messages(self, locale: impl Into<String>) -> Self {
        self.setting("lc_messages", locale)
    }

    /// Starts the server and waits until it accepts connections, which takes about a second.
    ///
    /// # Errors
    ///
    /// See [`SandboxError`]; when the server itself failed, with the end of its log.
    pub fn start(self) -> Result<Sandbox, SandboxError> {
        Sandbox::launch(self)
    }
}
