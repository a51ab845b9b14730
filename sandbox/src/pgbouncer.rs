//! A PgBouncer in front of a throwaway server.

use std::env;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use crate::account::Account;
use crate::directory::Directory;
use crate::{Sandbox, SandboxError, port, supervisor, url};

const SCRIPT: &str = include_str!("pgbouncer.sh");

/// The time limit of a start; only an overloaded machine needs that long.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// The folders of distributions, in addition to `PATH`.
const PLACES: [&str; 2] = ["/usr/sbin", "/usr/bin"];

/// A PgBouncer in transaction mode; it ends with this value, or with its owner.
///
/// It keeps two backends per database and gives each transaction the backend that was used
/// last. Every client becomes the superuser. Drop it before its server.
#[derive(Debug)]
pub struct PgBouncer {
    process: Child,
    directory: Directory,
    port: u16,
}

/// Returns PgBouncer's program, if this machine has it.
#[must_use]
pub fn find_pgbouncer() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = env::split_paths(&path).chain(PLACES.map(PathBuf::from));
    dirs.filter(|dir| dir.is_absolute())
        .map(|dir| dir.join("pgbouncer"))
        .find(|program| program.is_file())
}

impl PgBouncer {
    /// Starts a PgBouncer for a server, and waits until it listens.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NoPgBouncer`], and the errors of [`Sandbox::start`].
    pub fn start(server: &Sandbox) -> Result<Self, SandboxError> {
        let program = find_pgbouncer().ok_or(SandboxError::NoPgBouncer)?;
        let account = Account::to_drop_to()?;
        let directory = Directory::create(account.as_ref())?;
        let port = port::free()?;
        let settings = render(server, directory.path(), port);
        directory.write("pgbouncer.ini", &settings, account.as_ref())?;
        directory.write("pgbouncer.sh", SCRIPT, account.as_ref())?;
        let process = supervisor::shell("pgbouncer.sh", &program, &directory, account.as_ref())?;
        let bouncer = Self {
            process,
            directory,
            port,
        };
        bouncer.await_ready().map(|()| bouncer)
    }

    /// Returns the URL of a database through its unix socket.
    #[must_use]
    pub fn url_for(&self, database: &str) -> String {
        url::socket(self.directory.path(), self.port, database)
    }

    fn await_ready(&self) -> Result<(), SandboxError> {
        let socket = self
            .directory
            .path()
            .join(format!(".s.PGSQL.{}", self.port));
        let deadline = Instant::now() + READY_WITHIN;
        while UnixStream::connect(&socket).is_err() {
            if Instant::now() > deadline {
                return Err(SandboxError::NotReady {
                    limit: READY_WITHIN,
                    log: self.directory.log_tail(),
                });
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        // `wait` closes the pipe first, and the script ends with that.
        let _ = self.process.wait();
    }
}

fn render(server: &Sandbox, socket_dir: &Path, port: u16) -> String {
    format!(
        "[databases]\n\
         * = host={} port={} user=postgres\n\
         [pgbouncer]\n\
         unix_socket_dir = {}\n\
         listen_port = {port}\n\
         auth_type = any\n\
         pool_mode = transaction\n\
         default_pool_size = 2\n\
         max_client_conn = 200\n",
        server.socket_dir().display(),
        server.port(),
        socket_dir.display(),
    )
}
