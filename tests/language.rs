//! The language of the sources and pages: phrases that are not used.

use std::fs;
use std::path::{Path, PathBuf};

/// Each phrase with what to write in its place.
const BANNED: &[(&str, &str)] = &[
    ("in the way", "blocks, blocker"),
    ("out of the way", "terminated, cancelled"),
    ("unless said", "default: X"),
    ("to be had", "cannot be acquired"),
    ("for want of", "because … was not available"),
    ("whoever", "a noun"),
    ("somebody", "a session, a holder"),
    ("nobody", "no session"),
    ("keeps book", "records"),
    ("in vain", "until the timeout"),
];

/// The account of that name runs servers; the phrases themselves stand here.
const EXEMPT: &[&str] = &["sandbox", "tests/language.rs"];

fn files(path: PathBuf, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        let entries = fs::read_dir(&path).unwrap();
        entries.for_each(|entry| files(entry.unwrap().path(), found));
    } else if path.extension().is_some_and(|it| it == "rs" || it == "md") {
        found.push(path);
    }
}

#[test]
fn sources_and_pages_are_written_in_plain_words() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for path in ["src", "schema.rs", "docs", "README.md", "CHANGELOG.md"] {
        files(root.join(path), &mut found);
    }
    let mut faults = Vec::new();
    for file in found {
        let name = file.strip_prefix(root).unwrap().display().to_string();
        if EXEMPT.iter().any(|it| name.starts_with(it)) {
            continue;
        }
        for (number, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            let line = line.to_lowercase();
            for (phrase, instead) in BANNED.iter().filter(|(phrase, _)| line.contains(phrase)) {
                let number = number + 1;
                faults.push(format!("{name}:{number}: `{phrase}`: write {instead}"));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}
