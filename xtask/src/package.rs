//! The features and examples of the package, read from its files so that no list is outdated.

use std::fs;

use crate::Result;
use crate::command::root;
use crate::libpq;

/// The features that link libpq: a choice of the machine, which no check covers.
const LINKING: [&str; 2] = ["bundled", "bundled_without_openssl"];

/// Returns the names of the features that add functions to the crate.
pub fn features() -> Result<Vec<String>> {
    let manifest = fs::read_to_string(root().join("Cargo.toml"))?;
    let features = declared_features(&manifest);
    Ok(features
        .filter(|name| *name != "default" && !LINKING.contains(name))
        .map(str::to_owned)
        .collect())
}

/// Returns the one set of features to build, so that dependencies are built once.
///
/// These are all features, and libpq from source if the machine has none.
pub fn all_features() -> Result<String> {
    let mut features = features()?;
    if !libpq::is_installed() {
        features.push("bundled_without_openssl".to_owned());
    }
    let features = features.iter().map(|name| format!("diesel-pglock/{name}"));
    Ok(features.collect::<Vec<_>>().join(","))
}

/// Returns the names of the examples, sorted.
pub fn examples() -> Result<Vec<String>> {
    let Ok(entries) = fs::read_dir(root().join("examples")) else {
        return Ok(Vec::new());
    };
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(
                path.file_stem()
                    .and_then(|stem| stem.to_str())
                    .map(str::to_owned),
            );
        }
    }
    names.sort();
    Ok(names)
}

fn declared_features(manifest: &str) -> impl Iterator<Item = &str> {
    let lines = manifest
        .lines()
        .skip_while(|line| *line != "[features]")
        .skip(1);
    let table = lines.take_while(|line| !line.starts_with('['));
    table
        .filter(|line| line.starts_with(|first: char| first.is_ascii_alphanumeric()))
        .filter_map(|line| {
            let (name, _) = line.split_once('=')?;
            Some(name.trim())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_read_from_their_own_table() {
        let manifest = "[package]\nname = \"x\"\n[features]\n# why\none = []\ntwo_2 = [\n    \"a=b\",\n]\n\n[dependencies]\nserde = \"1\"\n";
        assert_eq!(
            declared_features(manifest).collect::<Vec<_>>(),
            ["one", "two_2"]
        );
    }

    #[test]
    fn this_package_has_features_and_none_is_a_way_of_linking() {
        let features = features().unwrap();
        assert!(features.contains(&"postgres".to_owned()));
        assert!(
            !features
                .iter()
                .any(|name| name.starts_with("bundled") || name == "default")
        );
    }
}
