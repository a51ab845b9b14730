//! The database of a command, and the connection to it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use diesel::PgConnection;
use diesel::connection::{CacheSize, Connection};
use diesel_pglock::WatcherSource;

use super::settings::{Settings, Source};
use crate::failure::Failure;
use diesel_pglock::internal::{redact_conninfo, with_database, with_defaults, with_settings};

/// The limit of connecting, in seconds.
const CONNECT_TIMEOUT: u32 = 10;

/// The duration of a failed attempt after which the login hangs, rather than is refused.
const HANGING: Duration = Duration::from_secs(2);

/// A login reads catalogs of its database. The waits are those of the server.
const HANGING_HINT: &str = "if the server answers in another database, such as `postgres`, \
    a session may have locked a catalog of this one: there `pglock tree` shows it";

/// Options that choose the database.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionArgs {
    /// The database: a URL or `key=value` pairs; default: DATABASE_URL of the environment or `.env`, then PG* variables, services and .pgpass
    #[arg(long, global = true, value_name = "URL")]
    database_url: Option<String>,
    /// A database that `pglock.toml` names
    #[arg(
        short,
        long,
        global = true,
        value_name = "NAME",
        conflicts_with = "database_url"
    )]
    database: Option<String>,
}

/// The environment, completed by `.env`.
#[derive(Debug)]
pub struct Environment {
    dotenv: Option<PathBuf>,
    /// True if DATABASE_URL was set before `.env` was read.
    has_url: bool,
    /// The error of `.env`, reported only by commands that need a variable of it.
    error: Option<String>,
}

impl Environment {
    /// Reads the nearest `.env`, from the working directory upward; it overrides no variable.
    pub fn read() -> Self {
        let has_url = variable("DATABASE_URL").is_some();
        let read = dotenvy::dotenv();
        Self {
            error: read.as_ref().err().and_then(dotenv_error),
            dotenv: read.ok(),
            has_url,
        }
    }

    /// Returns a variable of the environment or of `.env`.
    fn variable(&self, name: &str) -> Result<Option<String>, Failure> {
        match variable(name) {
            None => self.check_dotenv().map(|()| None),
            value => Ok(value),
        }
    }

    /// Returns DATABASE_URL.
    fn database(&self) -> Result<Option<Database>, Failure> {
        if !self.has_url {
            self.check_dotenv()?;
        }
        let dotenv = self.dotenv.clone().filter(|_| !self.has_url);
        let source = dotenv.map_or(Source::Variable("DATABASE_URL"), Source::File);
        let conninfo = variable("DATABASE_URL");
        Ok(conninfo.map(|conninfo| Database { conninfo, source }))
    }

    fn check_dotenv(&self) -> Result<(), Failure> {
        let error = self.error.clone();
        error.map_or(Ok(()), |error| Err(Failure::Usage(error)))
    }
}

/// Returns no text of the file: the line may hold a password.
fn dotenv_error(error: &dotenvy::Error) -> Option<String> {
    match error {
        error if error.not_found() => None,
        dotenvy::Error::LineParse(_, column) => Some(format!(
            "a line of `.env` cannot be parsed, at column {column}"
        )),
        error => Some(format!("`.env` cannot be read: {error}")),
    }
}

/// Returns a variable that is set and not empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A database, and the source of its connection string.
#[derive(Clone, Debug)]
pub struct Database {
    /// For libpq, which uses its defaults if this is empty. It may hold a password.
    conninfo: String,
    pub source: Source,
}

impl ConnectionArgs {
    /// Connects to the database.
    pub fn connect(&self, environment: &Environment) -> Result<PgConnection, Failure> {
        let settings = Settings::find()?;
        self.database(&settings, environment)?.connect()
    }

    /// Returns the same options, with a database of `pglock.toml` if none is chosen.
    pub fn or_named(&self, name: Option<&String>) -> Self {
        let is_chosen = self.database_url.is_some() || self.database.is_some();
        let named = name.filter(|_| !is_chosen).cloned();
        Self {
            database: named.or_else(|| self.database.clone()),
            ..self.clone()
        }
    }

    /// Finds the database in the options, `pglock.toml` or the environment.
    pub fn database(
        &self,
        settings: &Settings,
        environment: &Environment,
    ) -> Result<Database, Failure> {
        if let Some(url) = &self.database_url {
            return Ok(Database::new(url, Source::Option("--database-url")));
        }
        if let Some(name) = &self.database {
            let url = named(name, settings, environment)?;
            return Ok(Database::new(&url, Source::File(settings.path())));
        }
        let database = environment.database()?;
        Ok(database.unwrap_or_else(|| Database::new("", Source::Libpq)))
    }
}

/// Returns a database of `pglock.toml`; `$NAME` there is the variable `NAME`.
fn named(name: &str, settings: &Settings, environment: &Environment) -> Result<String, Failure> {
    let databases = &settings.file.databases;
    let url = databases.get(name).ok_or_else(|| unknown(name, settings))?;
    let Some(variable) = url.strip_prefix('$') else {
        return Ok(url.clone());
    };
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !variable.chars().all(is_of_name) {
        let reason = "the text after `$` is not the name of a variable";
        return Err(Failure::Usage(format!("database `{name}`: {reason}")));
    }
    environment.variable(variable)?.ok_or_else(|| {
        Failure::Usage(format!(
            "database `{name}`: the variable `{variable}` is not set"
        ))
    })
}

fn unknown(name: &str, settings: &Settings) -> Failure {
    let known = settings.names_of("database", settings.file.databases.keys());
    Failure::Usage(format!("unknown database `{name}`: {known}"))
}

/// Adds a limit for the time that connecting takes, and a name of the client, if there is none.
///
/// No statement is needed for them, which a locked catalog could stop.
fn complete(conninfo: &str) -> String {
    let timeout = CONNECT_TIMEOUT.to_string();
    let name = ("fallback_application_name", "pglock");
    match variable("PGCONNECT_TIMEOUT") {
        Some(_) => with_defaults(conninfo, &[name]),
        None => with_defaults(conninfo, &[("connect_timeout", &timeout), name]),
    }
}

impl Database {
    fn new(conninfo: &str, source: Source) -> Self {
        Self {
            conninfo: conninfo.to_owned(),
            source,
        }
    }

    /// Returns the database that an option names.
    pub fn of_option(conninfo: &str, option: &'static str) -> Self {
        Self::new(conninfo, Source::Option(option))
    }

    /// Returns the same connection string with other settings, whose values need no quotes.
    pub fn with(&self, settings: &[(&str, &str)]) -> Self {
        let conninfo = with_settings(&self.conninfo, settings);
        Self::new(&conninfo, self.source.clone())
    }

    /// Returns the connection string of another database of the server.
    pub fn of_name(&self, name: &str) -> Self {
        Self::new(&with_database(&self.conninfo, name), self.source.clone())
    }

    pub fn connect(&self) -> Result<PgConnection, Failure> {
        // The library's connect keeps passwords out of its errors.
        let started = Instant::now();
        let connected = complete(&self.conninfo).connect();
        let mut conn = connected.map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            let cause = cause.unwrap_or_else(|| error.to_string());
            Failure::Connection(match started.elapsed() < HANGING {
                true => cause,
                false => format!("{}; {HANGING_HINT}", cause.trim_end()),
            })
        })?;
        // Behind a pooler a backend may have a statement of another client with the same name.
        conn.set_prepared_statement_cache_size(CacheSize::Disabled);
        Ok(conn)
    }

    /// Returns the connection string, for a watcher.
    pub fn source(&self) -> String {
        self.conninfo.clone()
    }

    /// Returns the connection string, with the limit of connecting that the command has.
    pub fn limited_source(&self) -> String {
        complete(&self.conninfo)
    }

    /// Returns the connection string without its secrets.
    pub fn shown(&self) -> String {
        match self.conninfo.as_str() {
            "" => "chosen by libpq".to_owned(),
            conninfo => redact_conninfo(conninfo),
        }
    }
}
