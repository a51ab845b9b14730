//! `pglock completions` and `pglock man`: what is installed beside the command.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::arguments::Arguments;
use crate::failure::{Failure, Outcome};
use crate::output::show;

pub fn completions(shell: Shell) -> Result<Outcome, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "pglock", &mut text);
    written(&text)
}

/// The page `pglock(1)`, or `pglock-tree(1)` and its kin.
pub fn page(name: Option<&str>) -> Result<Outcome, Failure> {
    let mut command = Arguments::command();
    // So that a page of one command has the options that all commands have.
    command.build();
    let of = match name {
        None => command,
        Some(name) => {
            let found = command.get_subcommands().find(|it| it.get_name() == name);
            let found =
                found.ok_or_else(|| Failure::Usage(format!("there is no command `{name}`")))?;
            found.clone()
        }
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(of).render(&mut text)?;
    written(&text)
}

fn written(text: &[u8]) -> Result<Outcome, Failure> {
    show(&String::from_utf8_lossy(text))?;
    Ok(Outcome::Done)
}
