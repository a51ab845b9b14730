//! `cargo xtask soak`: random calls under random disturbances, for longer than in the tests.

use crate::command::{self, cargo};
use crate::{Result, package, postgres};

/// The soaks, each of which is a module of tests.
const SOAKS: [&str; 2] = ["locks", "cancels"];

/// The options, and the variables by which the tests read them.
const OPTIONS: [(&str, &str); 3] = [
    ("--seconds", "PGLOCK_SOAK_SECONDS"),
    ("--seed", "PGLOCK_SOAK_SEED"),
    ("--count", "PGLOCK_SOAK_COUNT"),
];

/// Runs one soak.
pub fn run(args: &[String]) -> Result<()> {
    let (name, options) = args.split_first().ok_or_else(usage)?;
    if !SOAKS.contains(&name.as_str()) {
        return Err(usage().into());
    }
    let variables = variables(options)?;
    postgres::ensure()?;
    let features = package::all_features()?;
    let test = format!("soak::{name}::");
    let mut soak = cargo(&["test", "--test", "main", "--features", &features, &test]);
    command::run(
        soak.envs(
            variables
                .iter()
                .map(|(name, value)| (name, value.to_string())),
        ),
    )
}

/// Returns the variables that the options set.
fn variables(options: &[String]) -> Result<Vec<(&'static str, u64)>> {
    options.chunks(2).map(variable).collect()
}

fn variable(option: &[String]) -> Result<(&'static str, u64)> {
    let [name, value] = option else {
        return Err(usage().into());
    };
    let known = OPTIONS.iter().find(|(option, _)| option == name);
    let (_, variable) = known.ok_or_else(usage)?;
    let value = value.parse();
    Ok((variable, value.map_err(|error| format!("{name}: {error}"))?))
}

fn usage() -> String {
    let options: Vec<_> = OPTIONS
        .iter()
        .map(|(name, _)| format!("[{name} N]"))
        .collect();
    format!(
        "usage: cargo xtask soak {} {}",
        SOAKS.join("|"),
        options.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn options_become_variables() {
        let variables = variables(&words("--seconds 600 --seed 7")).unwrap();
        assert_eq!(
            variables,
            [("PGLOCK_SOAK_SECONDS", 600), ("PGLOCK_SOAK_SEED", 7)]
        );
    }

    #[test]
    fn what_is_unknown_is_refused() {
        for line in ["--seconds", "--seconds x", "--hours 1"] {
            assert!(variables(&words(line)).is_err(), "{line}");
        }
        assert!(run(&words("rows --seconds 1")).is_err());
    }
}
