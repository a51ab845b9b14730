//! The file `pglock.toml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use diesel_pglock::{AdvisoryKey, SignalKind};
use serde::Deserialize;
use toml::Spanned;

use super::redact::redact_lines;
use crate::failure::Failure;
use crate::list::Field;
use crate::list::Filter;

/// The settings of a project.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SettingsFile {
    pub limit: Option<usize>,
    attributes: Option<Vec<Spanned<String>>>,
    blocking_attributes: Option<Vec<Spanned<String>>>,
    /// The names of advisory locks, which are shown in place of their numbers.
    advisory_keys: Vec<String>,
    pub databases: BTreeMap<String, String>,
    pub configs: BTreeMap<String, NamedConfig>,
}

/// The settings of `--config NAME`.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NamedConfig {
    /// A name of `databases`.
    pub database: Option<String>,
    pub pids: Vec<i32>,
    pub on: Vec<String>,
    pub filters: Vec<Spanned<String>>,
    attributes: Option<Vec<Spanned<String>>>,
    pub blocking: bool,
    pub limit: Option<usize>,
    pub expanded: bool,
    pub roots: bool,
    pub queue: bool,
    cancel: Spanned<bool>,
    terminate: Spanned<bool>,
    pub yes: bool,
}

impl Default for NamedConfig {
    fn default() -> Self {
        let no = || Spanned::new(0..0, false);
        Self {
            database: None,
            pids: Vec::new(),
            on: Vec::new(),
            filters: Vec::new(),
            attributes: None,
            blocking: false,
            limit: None,
            expanded: false,
            roots: false,
            queue: false,
            cancel: no(),
            terminate: no(),
            yes: false,
        }
    }
}

impl SettingsFile {
    pub fn attributes(&self, blocking: bool) -> Option<Vec<&str>> {
        let names = if blocking {
            &self.blocking_attributes
        } else {
            &self.attributes
        };
        names.as_deref().map(texts)
    }
}

impl NamedConfig {
    pub fn attributes(&self) -> Option<Vec<&str>> {
        self.attributes.as_deref().map(texts)
    }

    /// Returns the signal that the config sends.
    pub fn signal(&self) -> Option<SignalKind> {
        let terminate = self.terminate.get_ref().then_some(SignalKind::Terminate);
        terminate.or(self.cancel.get_ref().then_some(SignalKind::Cancel))
    }

    pub fn filters(&self) -> Vec<&str> {
        texts(&self.filters)
    }
}

fn texts(texts: &[Spanned<String>]) -> Vec<&str> {
    texts.iter().map(|text| text.get_ref().as_str()).collect()
}

/// Finds the file in the working directory or above it.
pub fn find() -> Result<Option<PathBuf>, Failure> {
    let start = std::env::current_dir()?;
    let mut paths = start.ancestors().map(|folder| folder.join("pglock.toml"));
    Ok(paths.find(|path| path.is_file()))
}

pub fn load(path: &Path) -> Result<SettingsFile, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::Usage(format!("`{}`: {error}", path.display())))?;
    parse(path, &text)
}

fn parse(path: &Path, text: &str) -> Result<SettingsFile, Failure> {
    let file: SettingsFile = toml::from_str(text).map_err(|error| {
        let position = error.span().map_or(0, |span| span.start);
        error_at(path, text, position, error.message())
    })?;
    // The library shows a key by the name that this process made it from.
    for name in &file.advisory_keys {
        let _ = AdvisoryKey::named(name);
    }
    match file.first_mistake() {
        Some(mistake) => Err(error_at(path, text, mistake.position, &mistake.error)),
        None => Ok(file),
    }
}

impl SettingsFile {
    /// Checks fields and filters when the file is read, so that the error can name the line.
    fn first_mistake(&self) -> Option<Mistake> {
        let configs = self.configs.values();
        let lists = configs.clone().map(|config| &config.attributes);
        let lists = lists.chain([&self.attributes, &self.blocking_attributes]);
        let mut fields = lists.flatten().flatten();
        let mut filters = configs.flat_map(|config| &config.filters);
        let both = self
            .configs
            .values()
            .find(|it| *it.cancel.get_ref() && *it.terminate.get_ref());
        if let Some(both) = both {
            let error = "a config cannot both cancel and terminate".to_owned();
            let position = both.terminate.span().start;
            return Some(Mistake { position, error });
        }
        let of_fields = fields.find_map(|name| mistake(name, Field::named(name.get_ref())));
        of_fields.or_else(|| filters.find_map(|it| mistake(it, it.get_ref().parse::<Filter>())))
    }
}

/// An error in a field or a filter of the file.
struct Mistake {
    position: usize,
    error: String,
}

fn mistake<T>(at: &Spanned<String>, result: Result<T, impl ToString>) -> Option<Mistake> {
    // The text of the file has escapes, in which that of the error differs.
    Some(Mistake {
        position: at.span().start,
        error: redact_lines(&result.err()?.to_string(), at.get_ref()),
    })
}

/// Returns an error at a position of a file, with its line and key.
pub fn error_at(path: &Path, text: &str, position: usize, error: &str) -> Failure {
    let before = &text[..position.min(text.len())];
    let line = before.matches('\n').count() + 1;
    let key = key_at(text, line).map(|key| format!("`{key}`: "));
    let (path, key) = (path.display(), key.unwrap_or_default());
    Failure::Usage(format!("{path}:{line}: {key}{}", redact_lines(error, text)))
}

/// Returns the key of a line, or of the list that the line belongs to.
fn key_at(text: &str, line: usize) -> Option<String> {
    let (mut table, mut key) = (None, None);
    for line in text.lines().take(line).map(str::trim) {
        let name = line.split_once('=').map(|(name, _)| name.trim());
        if let Some(header) = line.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
            // A line that is no header may be a secret.
            (table, key) = (Some(header.trim()).filter(|name| is_key(name)), None);
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
        parse(Path::new("pglock.toml"), text)
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
            database = "main"
            pids = [7]
            roots = true
            queue = true
            terminate = true
            yes = true
        "#;
        let file = parse(Path::new("pglock.toml"), text).unwrap();
        assert_eq!(file.limit, Some(5));
        assert_eq!(file.databases["main"], "postgres://localhost/app");
        assert!(file.configs["stuck"].blocking);
        assert_eq!(file.configs["stuck"].signal(), Some(SignalKind::Terminate));
        let both = error("[configs.a]\ncancel = true\nterminate = true\n");
        assert!(
            both.starts_with("pglock.toml:3: `configs.a.terminate`: "),
            "{both}"
        );
    }

    /// Texts that resemble the file, from a generator with a fixed seed.
    #[test]
    fn a_hundred_thousand_files_are_read_or_refused_without_a_secret() {
        let pieces = [
            "[databases]\n",
            "[configs.a]\n",
            "main = ",
            "\"postgres://a:hunter2@h/d\"",
            "limit",
            " = ",
            "=",
            "\n",
            "[",
            "]",
            "\"",
            "'",
            "filters",
            "pid>x",
            "true",
            "-1",
            "{",
            "}",
            ",",
            "\u{0}",
            "ä",
            "#",
            "terminate = true\n",
            "password=hunter2",
            "\"\"\"",
            "\\u",
        ];
        let mut random: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut refused = 0;
        for _ in 0..100_000 {
            let mut text = String::new();
            for _ in 0..8 {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                text.push_str(pieces[(random >> 33) as usize % pieces.len()]);
            }
            if let Err(failure) = parse(Path::new("pglock.toml"), &text) {
                refused += 1;
                let shown = failure.to_string();
                assert!(!shown.contains("hunter2"), "{text:?}: {shown}");
            }
        }
        assert!(refused > 10_000, "only {refused} were refused");
    }
}
