//! The directory of the migrations, found where `diesel migration` finds it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use diesel_migrations::FileBasedMigrations;
use serde::Deserialize;

use crate::connect::error_at;
use crate::failure::Failure;

/// Options that choose the directory.
#[derive(Args, Clone, Debug)]
pub struct DirectoryArgs {
    /// The directory; default: MIGRATION_DIRECTORY, `diesel.toml`, or the nearest `migrations`, from
    /// the working directory upward
    #[arg(
        long = "migration-dir",
        visible_alias = "migrations",
        value_name = "DIR"
    )]
    path: Option<PathBuf>,
    /// The configuration of Diesel; default: DIESEL_CONFIG_FILE, or the nearest `diesel.toml`
    #[arg(long, value_name = "FILE")]
    config_file: Option<PathBuf>,
}

/// The parts of a `diesel.toml` that concern migrations.
#[derive(Debug, Deserialize)]
struct DieselToml {
    migrations_directory: Option<MigrationsDirectory>,
}

#[derive(Debug, Deserialize)]
struct MigrationsDirectory {
    dir: PathBuf,
}

impl DirectoryArgs {
    /// Finds the migrations.
    pub fn source(&self) -> Result<FileBasedMigrations, Failure> {
        let found = match self.directory()? {
            Some(path) => FileBasedMigrations::from_path(&path)
                .map_err(|error| format!("`{}`: {error}", path.display())),
            None => {
                FileBasedMigrations::find_migrations_directory().map_err(|error| error.to_string())
            }
        };
        found.map_err(|error| Failure::Usage(format!("the migrations: {error}")))
    }

    /// Returns the directory that an option, the environment or `diesel.toml` names.
    fn directory(&self) -> Result<Option<PathBuf>, Failure> {
        let named = self
            .path
            .clone()
            .or_else(|| variable("MIGRATION_DIRECTORY"));
        match (named, self.config()?) {
            (Some(path), _) => Ok(Some(path)),
            (None, Some(config)) => directory_in(&config),
            (None, None) => Ok(None),
        }
    }

    fn config(&self) -> Result<Option<PathBuf>, Failure> {
        let named = self.config_file.clone();
        if let Some(path) = named.or_else(|| variable("DIESEL_CONFIG_FILE")) {
            return Ok(Some(path));
        }
        let start = env::current_dir()?;
        let mut paths = start.ancestors().map(|folder| folder.join("diesel.toml"));
        Ok(paths.find(|path| path.is_file()))
    }
}

fn variable(name: &str) -> Option<PathBuf> {
    let value = env::var_os(name).filter(|value| !value.is_empty());
    value.map(PathBuf::from)
}

/// Returns the directory that a `diesel.toml` names, relative to itself.
fn directory_in(config: &Path) -> Result<Option<PathBuf>, Failure> {
    let text = fs::read_to_string(config)
        .map_err(|error| Failure::Usage(format!("`{}`: {error}", config.display())))?;
    let parsed: DieselToml = toml::from_str(&text).map_err(|error| {
        let position = error.span().map_or(0, |span| span.start);
        error_at(config, &text, position, error.message())
    })?;
    let base = config.parent().unwrap_or(Path::new(""));
    Ok(parsed.migrations_directory.map(|it| base.join(it.dir)))
}
