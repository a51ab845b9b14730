//! `pglock man` and `pglock schema`, for packages and programs.

use clap::{Command, CommandFactory};

use crate::arguments::Arguments;
use crate::failure::{Failure, Outcome};
use crate::output::show;

/// Writes the page `pglock(1)`, or the page of a command such as `pglock-tree(1)`.
pub fn page(name: Option<&str>) -> Result<Outcome, Failure> {
    let mut command = Arguments::command();
    // Adds the global options to each command.
    command.build();
    let command = match name {
        None => command,
        Some(name) => find(&command, name)?.clone(),
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(command).render(&mut text)?;
    write(&text)
}

/// Writes the schema of this version: later ones may have more properties.
pub fn schema() -> Result<Outcome, Failure> {
    write(include_bytes!("../../../docs/json-schema.json"))
}

fn find<'c>(command: &'c Command, name: &str) -> Result<&'c Command, Failure> {
    let unknown = || format!("unknown command `{name}`; `pglock --help` lists the commands");
    let found = command.find_subcommand(name);
    found.ok_or_else(|| Failure::Usage(unknown()))
}

fn write(text: &[u8]) -> Result<Outcome, Failure> {
    show(&String::from_utf8_lossy(text))?;
    Ok(Outcome::Done)
}
