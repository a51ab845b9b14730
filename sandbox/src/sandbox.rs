//! A throwaway server.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use crate::account::Account;
use crate::directory::{Directory, random_hex};
use crate::postmaster::{self, State};
use crate::{SandboxBuilder, SandboxError, binaries, port, settings, supervisor, url};

/// The time limit of a start; only an overloaded machine needs that long.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// The number of ports that are tried, should another process take each of them first.
const PORTS: usize = 5;

/// A throwaway PostgreSQL server that ends with this value, or with its owner.
///
/// The superuser is `postgres`, the encoding is UTF-8 and the locale is `C`. The server
/// allows 200 sessions and 20 prepared transactions. Several servers can run at once.
#[derive(Debug)]
pub struct Sandbox {
    supervisor: Child,
    directory: Directory,
    log_file: PathBuf,
    account: Option<Account>,
    settings: Vec<(String, String)>,
    password: String,
    port: u16,
    version: u32,
}

impl Sandbox {
    /// Starts a server with the default settings.
    ///
    /// # Errors
    ///
    /// See [`SandboxBuilder::start`].
    pub fn start() -> Result<Self, SandboxError> {
        Self::builder().start()
    }

    /// Returns a builder for the settings and programs of a server.
    pub fn builder() -> SandboxBuilder {
        SandboxBuilder::default()
    }

    /// Returns the superuser's URL of the database `postgres`, through the unix socket.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_for("postgres")
    }

    /// Returns the superuser's URL of a database, through the unix socket.
    #[must_use]
    pub fn url_for(&self, database: &str) -> String {
        url::socket(self.socket_dir(), self.port, database)
    }

    /// Returns the superuser's URL of a database through the loopback port, with the password.
    #[must_use]
    pub fn tcp_url_for(&self, database: &str) -> String {
        url::tcp(&self.password, self.port, database)
    }

    /// Returns the port on 127.0.0.1, which also names the unix socket.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the directory of the unix socket; the server's data is in `data` below it.
    #[must_use]
    pub fn socket_dir(&self) -> &Path {
        self.directory.path()
    }

    /// Returns the server's log file, which is removed with the server.
    #[must_use]
    pub fn log_file(&self) -> &Path {
        &self.log_file
    }

    /// Returns PostgreSQL's major version, such as 18.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Stops the server at once and starts it again, on the same data and port.
    ///
    /// Every session is lost, as in a crash. Committed data remains.
    ///
    /// # Errors
    ///
    /// See [`SandboxError`]: the server did not start again.
    pub fn restart(&self) -> Result<(), SandboxError> {
        let previous = postmaster::pid(&self.directory);
        supervisor::restart(&self.supervisor)?;
        self.await_ready(previous.as_deref())
    }

    /// Stops the server at once, and returns when its process and data are gone.
    ///
    /// Dropping the value does the same.
    pub fn stop(self) {
        drop(self);
    }

    pub(crate) fn launch(builder: SandboxBuilder) -> Result<Self, SandboxError> {
        Self::launch_on(port::free()?, builder)
    }

    fn launch_on(port: u16, builder: SandboxBuilder) -> Result<Self, SandboxError> {
        let mut server = Self::spawn(port, builder)?;
        server.await_start()?;
        server.version = server
            .directory
            .read("data/PG_VERSION")
            .trim()
            .parse()
            .unwrap_or_default();
        Ok(server)
    }

    fn spawn(port: u16, builder: SandboxBuilder) -> Result<Self, SandboxError> {
        let bin_dir = builder
            .bin_dir
            .map_or_else(binaries::find_postgres, |dir| binaries::require(&dir))?;
        let account = Account::to_drop_to()?;
        if let Some(account) = &account {
            account.enter(&bin_dir)?;
        }
        let directory = Directory::create(account.as_ref())?;
        let password = random_hex(16)?;
        directory.write("password", &password, account.as_ref())?;
        directory.write("supervisor.sh", supervisor::SCRIPT, account.as_ref())?;
        directory.write(
            "sandbox.conf",
            &settings::render(&builder.settings, directory.path(), port),
            account.as_ref(),
        )?;
        Ok(Self {
            supervisor: supervisor::start(&bin_dir, &directory, account.as_ref())?,
            log_file: directory.log(),
            directory,
            account,
            settings: builder.settings,
            password,
            port,
            version: 0,
        })
    }

    /// Waits for the first start, and tries another port if a process has taken this one.
    fn await_start(&mut self) -> Result<(), SandboxError> {
        let mut result = self.await_ready(None);
        for _ in 1..PORTS {
            if !matches!(result, Err(SandboxError::Ended { .. })) || port::is_free(self.port) {
                break;
            }
            result = self.move_to(port::free()?);
        }
        result
    }

    fn move_to(&mut self, port: u16) -> Result<(), SandboxError> {
        self.port = port;
        let file = settings::render(&self.settings, self.directory.path(), port);
        self.directory
            .write("sandbox.conf", &file, self.account.as_ref())?;
        self.restart()
    }

    fn await_ready(&self, previous: Option<&str>) -> Result<(), SandboxError> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            match postmaster::state(&self.directory, previous) {
                State::Ready => return Ok(()),
                State::Ended => {
                    return Err(SandboxError::Ended {
                        log: self.directory.log_tail(),
                    });
                }
                State::Starting if Instant::now() > deadline => return Err(self.not_ready()),
                State::Starting => thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    fn not_ready(&self) -> SandboxError {
        SandboxError::NotReady {
            limit: READY_WITHIN,
            log: self.directory.log_tail(),
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // `wait` closes the pipe to the supervisor first, which then stops the server.
        let _ = self.supervisor.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[test]
    fn a_port_that_is_taken_is_replaced() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let server = Sandbox::launch_on(port, Sandbox::builder()).unwrap();
        assert_ne!(server.port(), port);
        assert!(!port::is_free(server.port()));
    }
}
