//! Which database, and the way there.

use std::path::PathBuf;

use clap::Args;
use diesel::PgConnection;
use diesel::connection::SimpleConnection;
use diesel_pglock::WatcherSource;

use crate::failure::Failure;
use crate::settings::{Settings, Source};
use diesel_pglock::internal::redact_conninfo;

/// The connection.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionArgs {
    /// The database: a URL or `key=value` pairs; unless said DATABASE_URL, also from `.env`, or else libpq's own PG* variables, services and .pgpass
    #[arg(long, global = true, value_name = "URL")]
    database_url: Option<String>,
    /// One of the databases that `pglock.toml` names
    #[arg(
        short,
        long,
        global = true,
        value_name = "NAME",
        conflicts_with = "database_url"
    )]
    database: Option<String>,
}

/// The environment, and what `.env` adds to it.
#[derive(Debug)]
pub struct Environment {
    dotenv: Option<PathBuf>,
    /// Whether DATABASE_URL was there before.
    has_url: bool,
    /// What is wrong with `.env`, which matters where something is wanted from it.
    mistake: Option<String>,
}

impl Environment {
    /// Reads `.env`, looked for upward from the working directory. A variable that is set already stays.
    pub fn read() -> Self {
        let has_url = variable("DATABASE_URL").is_some();
        let (dotenv, mistake) = match dotenvy::dotenv() {
            Ok(path) => (Some(path), None),
            Err(error) if error.not_found() => (None, None),
            // The line may hold a password.
            Err(dotenvy::Error::LineParse(_, column)) => (
                None,
                Some(format!(
                    "a line of the file `.env` cannot be read, at its column {column}"
                )),
            ),
            Err(error) => (None, Some(format!("the file `.env`: {error}"))),
        };
        Self {
            dotenv,
            has_url,
            mistake,
        }
    }

    /// A variable, also from `.env`.
    fn variable(&self, name: &str) -> Result<Option<String>, Failure> {
        match (variable(name), &self.mistake) {
            (None, Some(mistake)) => Err(Failure::Usage(mistake.clone())),
            (value, _) => Ok(value),
        }
    }

    /// DATABASE_URL, and where it is from.
    fn url(&self) -> Result<Option<(String, Source)>, Failure> {
        let from_dotenv = !self.has_url;
        if let (true, Some(mistake)) = (from_dotenv, &self.mistake) {
            return Err(Failure::Usage(mistake.clone()));
        }
        let dotenv = self.dotenv.clone().filter(|_| from_dotenv);
        let source = dotenv.map_or(Source::Variable("DATABASE_URL"), Source::File);
        Ok(variable("DATABASE_URL").map(|url| (url, source)))
    }
}

/// A variable that is set to something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What leads to a database, and where that was said.
#[derive(Clone, Debug)]
pub struct Database {
    /// For libpq; empty for its own defaults. It may hold a password.
    conninfo: String,
    pub source: Source,
}

impl ConnectionArgs {
    /// Finds which database is meant.
    pub fn database(
        &self,
        settings: &Settings,
        environment: &Environment,
    ) -> Result<Database, Failure> {
        let (conninfo, source) = if let Some(url) = &self.database_url {
            (url.clone(), Source::Option("--database-url"))
        } else if let Some(name) = &self.database {
            let url = named(name, settings, environment)?;
            (url, Source::File(settings.path()))
        } else {
            let url = environment.url()?;
            url.unwrap_or((String::new(), Source::Libpq))
        };
        Ok(Database { conninfo, source })
    }
}

/// The database of that name; `$NAME` stands for the variable `NAME`.
fn named(name: &str, settings: &Settings, environment: &Environment) -> Result<String, Failure> {
    let databases = &settings.file.databases;
    let Some(url) = databases.get(name) else {
        let names: Vec<&str> = databases.keys().map(String::as_str).collect();
        let there = match names.as_slice() {
            [] => "no database".to_owned(),
            names => names.join(", "),
        };
        return Err(Failure::Usage(format!(
            "there is no database `{name}`; `pglock.toml` has {there}"
        )));
    };
    let Some(of) = url.strip_prefix('$') else {
        return Ok(url.clone());
    };
    if !of.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(Failure::Usage(format!(
            "the database `{name}`: what follows `$` is no name of a variable"
        )));
    }
    environment.variable(of)?.ok_or_else(|| {
        Failure::Usage(format!(
            "the database `{name}` is in the variable `{of}`, which is not set"
        ))
    })
}

impl Database {
    pub fn connect(&self) -> Result<PgConnection, Failure> {
        // The crate's own way to connect keeps what the URL keeps secret out of errors.
        let connected = self.conninfo.connect();
        let mut conn = connected.map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            Failure::Connection(cause.unwrap_or_else(|| error.to_string()))
        })?;
        conn.batch_execute(
            "SELECT pg_catalog.set_config('application_name', 'pglock', false) \
             WHERE pg_catalog.current_setting('application_name') = ''",
        )?;
        Ok(conn)
    }

    /// Where connections to it come from.
    pub fn source(&self) -> String {
        self.conninfo.clone()
    }

    /// The way there, without what is secret.
    pub fn shown(&self) -> String {
        match self.conninfo.as_str() {
            "" => "as libpq finds it".to_owned(),
            conninfo => redact_conninfo(conninfo),
        }
    }
}
