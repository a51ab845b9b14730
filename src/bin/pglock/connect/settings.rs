//! The settings in force: of options, a named config, `pglock.toml` and defaults.

use std::fmt;
use std::path::PathBuf;

use super::settings_file;
use super::settings_file::{NamedConfig, SettingsFile};
use crate::failure::Failure;
use crate::list::Field;

const LIMIT: usize = 25;

const ATTRIBUTES: [&str; 9] = [
    "pid",
    "granted",
    "mode",
    "target",
    "wait_duration",
    "activity.application_name",
    "activity.state",
    "activity.transaction_duration",
    "activity.query",
];

const BLOCKING_ATTRIBUTES: [&str; 10] = [
    "blocking.pid",
    "blocking.blocks",
    "blocking.application_name",
    "blocking.state",
    "blocking.transaction_duration",
    "pid",
    "mode",
    "target",
    "wait_duration",
    "blocking.query",
];

/// The origin of a setting.
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

/// A value and its origin.
#[derive(Clone, Debug, PartialEq)]
pub struct Sourced<T> {
    pub value: T,
    pub source: Source,
}

impl<T> Sourced<T> {
    fn new(value: T, source: Source) -> Self {
        Self { value, source }
    }
}

/// The config of `--config NAME`.
#[derive(Clone, Copy, Debug)]
pub struct ActiveConfig<'s> {
    name: &'s str,
    pub settings: &'s NamedConfig,
}

impl ActiveConfig<'_> {
    pub fn source(&self) -> Source {
        Source::Config(self.name.to_owned())
    }
}

/// The nearest `pglock.toml`, or no settings.
#[derive(Debug, Default)]
pub struct Settings {
    path: Option<PathBuf>,
    pub file: SettingsFile,
}

impl Settings {
    pub fn find() -> Result<Self, Failure> {
        let Some(path) = settings_file::find()? else {
            return Ok(Self::default());
        };
        let file = settings_file::load(&path)?;
        let path = Some(path);
        Ok(Self { path, file })
    }

    /// Returns the path of the file; call it only for settings of the file.
    pub fn path(&self) -> PathBuf {
        self.path.clone().unwrap_or_default()
    }

    pub fn is_found(&self) -> bool {
        self.path.is_some()
    }

    pub fn config<'s>(
        &'s self,
        name: Option<&'s str>,
    ) -> Result<Option<ActiveConfig<'s>>, Failure> {
        let Some(name) = name else { return Ok(None) };
        let settings = self.file.configs.get(name).ok_or_else(|| {
            let known = self.names_of("config", self.file.configs.keys());
            Failure::Usage(format!("unknown config `{name}`: {known}"))
        })?;
        Ok(Some(ActiveConfig { name, settings }))
    }

    /// Describes the names that the file defines, for an error about an unknown one.
    pub fn names_of<'s>(&self, noun: &str, names: impl Iterator<Item = &'s String>) -> String {
        let names: Vec<&str> = names.map(String::as_str).collect();
        if !self.is_found() {
            return "found no `pglock.toml` in this folder or above it".to_owned();
        }
        if names.is_empty() {
            return format!("`pglock.toml` defines no {noun}");
        }
        format!("`pglock.toml` defines {}", names.join(", "))
    }

    /// Returns the maximum number of rows.
    pub fn limit(&self, option: Option<usize>, config: Option<ActiveConfig<'_>>) -> Sourced<usize> {
        let option = option.map(|limit| Sourced::new(limit, Source::Option("--limit")));
        let of_config = |it: ActiveConfig<'_>| Some(Sourced::new(it.settings.limit?, it.source()));
        let of_file = |limit| Sourced::new(limit, Source::File(self.path()));
        option
            .or_else(|| config.and_then(of_config))
            .or_else(|| self.file.limit.map(of_file))
            .unwrap_or(Sourced::new(LIMIT, Source::Default))
    }

    /// Returns the fields of the columns.
    pub fn attributes(
        &self,
        option: &[String],
        config: Option<ActiveConfig<'_>>,
        blocking: bool,
    ) -> Result<Sourced<Vec<&'static Field>>, Failure> {
        if !option.is_empty() {
            return fields(option, Source::Option("--columns"));
        }
        let of_config = config.and_then(|it| Some((it.settings.attributes()?, it.source())));
        if let Some((names, source)) = of_config {
            return fields(&names, source);
        }
        match self.file.attributes(blocking) {
            Some(names) => fields(&names, Source::File(self.path())),
            None if blocking => fields(&BLOCKING_ATTRIBUTES, Source::Default),
            None => fields(&ATTRIBUTES, Source::Default),
        }
    }
}

fn fields(
    names: &[impl AsRef<str>],
    source: Source,
) -> Result<Sourced<Vec<&'static Field>>, Failure> {
    let fields = names.iter().map(|name| Field::named(name.as_ref()));
    let fields = fields.collect::<Result<Vec<_>, _>>();
    let value = fields.map_err(|unknown| Failure::Usage(unknown.to_string()))?;
    Ok(Sourced { value, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_fields() {
        let settings = Settings::default();
        assert_eq!(settings.limit(None, None).value, 25);
        for blocking in [false, true] {
            assert!(settings.attributes(&[], None, blocking).is_ok());
        }
    }
}
