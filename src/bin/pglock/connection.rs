//! Which database, and the way there.

use std::path::PathBuf;

use clap::Args;
use diesel::PgConnection;
use diesel::connection::SimpleConnection;
use diesel_pglock::WatcherSource;

use crate::failure::Failure;
use crate::settings::{Settings, Source};
use diesel_pglock::internal::{pairs, url};

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
            conninfo => shown(conninfo),
        }
    }
}

/// A URL or `key=value` pairs, without what is secret.
fn shown(conninfo: &str) -> String {
    match url(conninfo) {
        Some((scheme, rest)) => format!("{scheme}://{}", shown_rest(rest)),
        None => shown_words(conninfo),
    }
}

/// A text that may quote the arguments, without what they keep secret: a URL is easily
/// given where none is expected.
pub fn conceal(text: &str) -> String {
    let arguments = std::env::args_os().skip(1);
    let arguments: Vec<_> = arguments
        .map(|it| it.to_string_lossy().into_owned())
        .collect();
    let values = arguments.iter().flat_map(|it| {
        [
            Some(it.as_str()),
            it.split_once('=').map(|(_, value)| value),
        ]
    });
    let secret = values
        .flatten()
        .filter(|it| it.contains("://") || it.contains("password"));
    secret.fold(text.to_owned(), |text, it| {
        let shown = url(it).map_or_else(|| "…".to_owned(), |_| shown(it));
        text.replace(it, &shown)
    })
}

/// A password may hold any sign, so the last `@` ends it; unless that may belong to one
/// among the parameters.
fn shown_rest(rest: &str) -> String {
    let parameters = rest
        .split_once('?')
        .map_or("", |(_, parameters)| parameters);
    if parameters.contains('@') && parameters.contains("password=") {
        return "…".to_owned();
    }
    let (credentials, place) = match rest.rsplit_once('@') {
        Some((credentials, place)) => (Some(credentials), place),
        None => (None, rest),
    };
    let place = place.split_once('?').map_or(place, |(place, _)| place);
    match credentials.map(|it| {
        it.split_once(':')
            .map_or((it, false), |(user, _)| (user, true))
    }) {
        Some((user, true)) => format!("{user}:…@{place}"),
        Some((user, false)) => format!("{user}@{place}"),
        None => place.to_owned(),
    }
}

/// Only what is known to be no secret.
fn shown_words(conninfo: &str) -> String {
    const SHOWN: [&str; 6] = ["host", "hostaddr", "port", "dbname", "user", "service"];
    let pairs = pairs(conninfo).into_iter();
    let shown = pairs.filter(|(keyword, _)| SHOWN.contains(&keyword.as_str()));
    let words: Vec<_> = shown
        .filter_map(|(keyword, value)| Some(format!("{keyword}={}", value?)))
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown_as(conninfo: &str) -> String {
        let (conninfo, source) = (conninfo.to_owned(), Source::Libpq);
        Database { conninfo, source }.shown()
    }

    #[test]
    fn a_password_is_not_shown() {
        assert_eq!(
            shown_as("postgres://app:s@cr/et?@host:1/db"),
            "postgres://app:…@host:1/db"
        );
        assert_eq!(
            shown_as("postgres://app@host/db?password=x"),
            "postgres://app@host/db"
        );
        assert_eq!(
            shown_as("postgres://host:1/db?user=a&password=hunter2@x"),
            "postgres://…"
        );
        assert_eq!(shown_as("postgres:///db?host=/tmp"), "postgres:///db");
        assert_eq!(
            shown_as("host=x password=y dbname=z sslpassword=q"),
            "host=x dbname=z"
        );
        assert_eq!(shown_as("dbname=z password='a host=b c'"), "dbname=z");
        assert_eq!(shown_as("host = h password = host"), "host=h");
        assert_eq!(shown_as(""), "as libpq finds it");
    }
}
