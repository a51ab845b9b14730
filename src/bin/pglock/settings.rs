//! What is in force: of the options, a named config, `pglock.toml` and the defaults.

use std::fmt;
use std::path::PathBuf;

use toml::Spanned;

use crate::failure::Failure;
use crate::field::Field;
use crate::settings_file::{self, Named, SettingsFile};

const LIMIT: usize = 25;

const ATTRIBUTES: [&str; 9] = [
    "pid",
    "granted",
    "mode",
    "target",
    "wait_duration",
    "activity.application",
    "activity.state",
    "activity.transaction_duration",
    "activity.query",
];

const BLOCKING_ATTRIBUTES: [&str; 9] = [
    "blocking.pid",
    "blocking.application",
    "blocking.state",
    "blocking.transaction_duration",
    "pid",
    "mode",
    "target",
    "wait_duration",
    "blocking.query",
];

/// Where a setting is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Option(&'static str),
    Config(String),
    File(PathBuf),
    Variable(&'static str),
    Libpq,
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option(name) => f.write_str(name),
            Self::Config(name) => write!(f, "config `{name}`"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Libpq => f.write_str("libpq: PG* variables, services, .pgpass"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// The file, if there is one.
#[derive(Debug, Default)]
pub struct Settings {
    path: Option<PathBuf>,
    pub file: SettingsFile,
}

impl Settings {
    pub fn find() -> Result<Self, Failure> {
        let found = settings_file::find()?;
        Ok(found.map_or_else(Self::default, |(path, file)| Self {
            path: Some(path),
            file,
        }))
    }

    /// The file; only asked for what is in it.
    pub fn path(&self) -> PathBuf {
        self.path.clone().unwrap_or_default()
    }

    pub fn is_found(&self) -> bool {
        self.path.is_some()
    }

    /// The config of that name, with its name.
    pub fn config<'s>(
        &'s self,
        name: Option<&'s str>,
    ) -> Result<Option<(&'s str, &'s Named)>, Failure> {
        let Some(name) = name else { return Ok(None) };
        let configs = &self.file.configs;
        if let Some(config) = configs.get(name) {
            return Ok(Some((name, config)));
        }
        let there = match configs.keys().map(String::as_str).collect::<Vec<_>>() {
            names if names.is_empty() && self.is_found() => "`pglock.toml` has none".to_owned(),
            names if names.is_empty() => "there is no `pglock.toml` here or above".to_owned(),
            names => format!("there are {}", names.join(", ")),
        };
        Err(Failure::Usage(format!(
            "there is no config `{name}`; {there}"
        )))
    }

    /// How many rows are shown.
    pub fn limit(&self, option: Option<usize>, config: Option<(&str, &Named)>) -> (usize, Source) {
        let config =
            config.and_then(|(name, it)| Some((it.limit?, Source::Config(name.to_owned()))));
        let file = self
            .file
            .limit
            .map(|limit| (limit, Source::File(self.path())));
        option
            .map(|limit| (limit, Source::Option("--limit")))
            .or(config)
            .or(file)
            .unwrap_or((LIMIT, Source::Default))
    }

    /// Which columns are shown.
    pub fn attributes(
        &self,
        option: &[String],
        config: Option<(&str, &Named)>,
        blocking: bool,
    ) -> Result<(Vec<&'static Field>, Source), Failure> {
        if !option.is_empty() {
            return Ok((named(option.iter())?, Source::Option("--attribute")));
        }
        let config = config.and_then(|(name, it)| Some((it.attributes.as_ref()?, name)));
        if let Some((names, config)) = config {
            return Ok((
                named(names.iter().map(Spanned::get_ref))?,
                Source::Config(config.to_owned()),
            ));
        }
        let (file, default) = match blocking {
            true => (&self.file.blocking_attributes, BLOCKING_ATTRIBUTES),
            false => (&self.file.attributes, ATTRIBUTES),
        };
        match file {
            Some(names) => Ok((
                named(names.iter().map(Spanned::get_ref))?,
                Source::File(self.path()),
            )),
            None => Ok((named(default.iter())?, Source::Default)),
        }
    }
}

fn named(names: impl Iterator<Item = impl AsRef<str>>) -> Result<Vec<&'static Field>, Failure> {
    let fields: Result<Vec<_>, _> = names.map(|name| Field::named(name.as_ref())).collect();
    fields.map_err(|unknown| Failure::Usage(unknown.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_fields() {
        let settings = Settings::default();
        assert_eq!(settings.limit(None, None), (25, Source::Default));
        for blocking in [false, true] {
            assert!(settings.attributes(&[], None, blocking).is_ok());
        }
    }
}
