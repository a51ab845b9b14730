//! `pglock.toml`, as it is written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use crate::failure::Failure;
use crate::field::Field;
use crate::filter::Filter;
use crate::redact::redact_quotations;

/// The settings of a project.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SettingsFile {
    pub limit: Option<usize>,
    pub attributes: Option<Vec<Spanned<String>>>,
    pub blocking_attributes: Option<Vec<Spanned<String>>>,
    pub databases: BTreeMap<String, String>,
    pub configs: BTreeMap<String, Named>,
}

/// What stands for `--config NAME`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Named {
    pub on: Vec<String>,
    pub filters: Vec<Spanned<String>>,
    pub attributes: Option<Vec<Spanned<String>>>,
    pub blocking: bool,
    pub limit: Option<usize>,
    pub expanded: bool,
}

/// Looks for the file upward from the working directory, and reads it.
pub fn find() -> Result<Option<(PathBuf, SettingsFile)>, Failure> {
    let start = std::env::current_dir()?;
    let found = start
        .ancestors()
        .map(|folder| folder.join("pglock.toml"))
        .find(|path| path.is_file());
    let Some(path) = found else { return Ok(None) };
    let text = std::fs::read_to_string(&path)
        .map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
    let file = read(&path, &text)?;
    Ok(Some((path, file)))
}

fn read(path: &Path, text: &str) -> Result<SettingsFile, Failure> {
    let wrong = |at: usize, why: &str| {
        let line = text[..at.min(text.len())].matches('\n').count() + 1;
        let key = key_at(text, line)
            .map(|key| format!("`{key}`: "))
            .unwrap_or_default();
        let why = redact_quotations(why);
        Failure::Usage(format!("{}:{line}: {key}{why}", path.display()))
    };
    let file: SettingsFile = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        wrong(at, error.message())
    })?;
    let named = file.configs.values();
    let lists = named.clone().map(|config| &config.attributes);
    let lists = lists.chain([&file.attributes, &file.blocking_attributes]);
    for name in lists.flatten().flatten() {
        Field::named(name.get_ref()).map_err(|why| wrong(name.span().start, &why.to_string()))?;
    }
    for filter in named.flat_map(|config| &config.filters) {
        let parsed = filter.get_ref().parse::<Filter>();
        parsed.map_err(|why| wrong(filter.span().start, &why.to_string()))?;
    }
    Ok(file)
}

/// The key that a line sets, or the one above it that a list goes on from.
fn key_at(text: &str, line: usize) -> Option<String> {
    let (mut table, mut key) = (None, None);
    for line in text.lines().take(line).map(str::trim) {
        let name = line.split_once('=').map(|(name, _)| name.trim());
        if let Some(header) = line.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
            (table, key) = (Some(header.trim()), None);
        } else if let Some(name) = name.filter(|name| is_key(name)) {
            key = Some(name);
        }
    }
    match (table, key) {
        (Some(table), Some(key)) => Some(format!("{table}.{key}")),
        (table, key) => table.or(key).map(str::to_owned),
    }
}

fn is_key(name: &str) -> bool {
    let is_of_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    !name.is_empty() && name.chars().all(is_of_key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        read(Path::new("pglock.toml"), text)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn an_error_names_file_line_and_key() {
        let found = error("limit = 5\n\n[configs.stuck]\nlimit = \"x\"\n");
        assert!(
            found.starts_with("pglock.toml:4: `configs.stuck.limit`: "),
            "{found}"
        );
        let found = error("[configs.stuck]\ncolour = 1\n");
        assert!(
            found.starts_with("pglock.toml:2: `configs.stuck.colour`: unknown field"),
            "{found}"
        );
        let found = error("[configs.a]\nfilters = [\n  \"granted=false\",\n  \"pid>x\",\n]\n");
        assert!(
            found.starts_with("pglock.toml:4: `configs.a.filters`: field `pid`"),
            "{found}"
        );
        let found = error("attributes = [\"pid\", \"nope\"]");
        assert!(
            found.starts_with("pglock.toml:1: `attributes`: unknown field `nope`"),
            "{found}"
        );
        assert!(error("limit = = 3").starts_with("pglock.toml:1: "));
        assert!(error("limit = -1").contains("`limit`"));
    }

    #[test]
    fn all_keys_are_read() {
        let text = r#"
            limit = 5
            attributes = ["pid"]
            blocking_attributes = ["blocking.pid"]
            [databases]
            main = "postgres://localhost/app"
            [configs.stuck]
            on = ["users"]
            filters = ["granted=false"]
            attributes = ["mode"]
            blocking = true
            limit = 3
            expanded = true
        "#;
        let file = read(Path::new("pglock.toml"), text).unwrap();
        assert_eq!(file.limit, Some(5));
        assert_eq!(file.databases["main"], "postgres://localhost/app");
        assert!(file.configs["stuck"].blocking);
    }
}
