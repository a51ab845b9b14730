//! The arguments of a run.

use std::path::PathBuf;

use crate::Result;
use crate::placement::Placement;
use crate::works;

pub const HELP: &str = "\
Measures diesel-pglock beside what users would pick instead, on a throwaway server.

    cargo xtask bench [NAME]… [--quick] [--json FILE] [--update]
    cargo xtask bench --list

    NAME         measures only works whose name contains it
    --quick      takes fewer rounds of smaller sizes; fails only if a figure misses its target
                 by more than half
    --json FILE  also writes the rows to a file
    --update     also writes the table of a full run to docs/performance.md
    --list       lists the works";

/// The works of a run, their size, and the files that it writes.
#[derive(Debug, Default, PartialEq)]
pub struct Options {
    pub names: Vec<String>,
    pub is_quick: bool,
    pub json: Option<PathBuf>,
    pub updates_page: bool,
    pub lists: bool,
    pub helps: bool,
    /// Measures in this process, which runs there, instead of starting others.
    pub worker: Option<Placement>,
}

impl Options {
    /// Reads arguments.
    pub fn read(arguments: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut options = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => options.is_quick = true,
                "--update" => options.updates_page = true,
                "--list" => options.lists = true,
                "--help" | "-h" => options.helps = true,
                "--worker=one" => options.worker = Some(Placement::OneCpu),
                "--worker=all" => options.worker = Some(Placement::AllCpus),
                "--json" => {
                    options.json = Some(arguments.next().ok_or("--json needs a file")?.into())
                }
                other => options.names.push(known(other)?),
            }
        }
        options.checked()
    }

    /// Refuses a page with figures of a part.
    fn checked(self) -> Result<Self> {
        if self.updates_page && (self.is_quick || !self.names.is_empty()) {
            return Err("--update needs a full run of all works".into());
        }
        Ok(self)
    }

    /// Returns the arguments with which another process measures the same.
    pub fn arguments(&self) -> Vec<String> {
        let quick = self.is_quick.then(|| "--quick".to_owned());
        self.names.iter().cloned().chain(quick).collect()
    }
}

/// Returns a name that chooses a work.
fn known(name: &str) -> Result<String> {
    let name = name.to_owned();
    let chosen = std::slice::from_ref(&name);
    if works::ALL.iter().any(|work| work.is_chosen(chosen)) {
        return Ok(name);
    }
    Err(format!("no work is named `{name}`; `--list` lists all works").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Options> {
        Options::read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn the_measuring_process_measures_the_same_and_writes_nothing() {
        let options = read("list --quick --json x.json").unwrap();
        assert!(options.json.is_some());
        let same = Options::read(options.arguments()).unwrap();
        assert_eq!((same.names, same.is_quick), (options.names, true));
        assert_eq!(same.json, None);
    }

    #[test]
    fn the_page_shows_full_runs_only() {
        assert!(read("--update").unwrap().updates_page);
        assert!(read("--update --quick").is_err());
        assert!(read("--update list").is_err());
    }

    #[test]
    fn what_is_unknown_is_refused() {
        assert!(read("--fast").is_err());
        assert!(read("no-such-work").is_err());
        assert!(read("--json").is_err());
    }
}
