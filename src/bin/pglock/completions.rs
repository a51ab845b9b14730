//! `pglock completions`: the completions for a shell, with the values of options.

use clap::builder::{PossibleValuesParser, Resettable};
use clap::{Arg, Command, CommandFactory, ValueHint};
use clap_complete::Shell;
use diesel_pglock::{LockMode, TableLockMode};

use crate::arguments::Arguments;
use crate::failure::{Failure, Outcome};
use crate::list::fields;
use crate::migrate::{POLICIES, RULES};
use crate::output::show;

pub fn run(shell: Shell) -> Result<Outcome, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut definition(), "pglock", &mut text);
    show(&String::from_utf8_lossy(&text))?;
    Ok(Outcome::Done)
}

/// Returns a definition for scripts alone: its options take no other values than it offers.
fn definition() -> Command {
    let command = Arguments::command().mut_args(with_values);
    command.mut_subcommands(|command| command.mut_args(with_values))
}

/// Shells would offer the names of files for an argument without values or a hint.
fn with_values(arg: Arg) -> Arg {
    let values = values(arg.get_id().as_str());
    if !values.is_empty() {
        // A default has another form than the values, such as one with a space.
        arg.default_value(Resettable::Reset)
            .value_parser(PossibleValuesParser::new(values))
    } else if arg.get_value_hint() == ValueHint::Unknown && arg.get_action().takes_values() {
        arg.value_hint(ValueHint::Other)
    } else {
        arg
    }
}

/// Returns the values to offer for an argument; none if they are not known.
fn values(argument: &str) -> Vec<String> {
    let fields = fields().map(|field| field.name);
    let owned = |words: &[&str]| words.iter().map(|it| (*it).to_owned()).collect();
    match argument {
        "columns" => fields.map(str::to_owned).collect(),
        "filter" => fields.map(|name| format!("{name}=")).collect(),
        "spare" => {
            let fields = fields.filter(|name| *name == "pid" || name.starts_with("activity."));
            fields.map(|name| format!("{name}=")).collect()
        }
        "mode" => modes().collect(),
        "policy" => owned(&POLICIES),
        "deny" => {
            let modes = TableLockMode::ALL.iter().map(|mode| mode.as_sql());
            let modes = modes.map(|mode| mode.to_lowercase().replace(' ', "-"));
            RULES.map(str::to_owned).into_iter().chain(modes).collect()
        }
        "page" => {
            let definition = Arguments::command();
            let names = definition.get_subcommands().map(Command::get_name);
            names.map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}

/// Returns the modes in a form without spaces.
fn modes() -> impl Iterator<Item = String> {
    let modes = TableLockMode::ALL.iter();
    modes.map(|mode| LockMode::from(*mode).to_string())
}
