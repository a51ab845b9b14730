//! `pglock config`.

use clap::Args;
use serde::Serialize;

use crate::connection::{ConnectionArgs, Environment};
use crate::failure::{Failure, Outcome};
use crate::field::Field;
use crate::json::show_json;
use crate::output::{Colour, Screen, show};
use crate::settings::{Settings, Source};
use crate::settings_file::Named;
use crate::table::Table;
use crate::terminal_text::clean;

/// Which configuration.
#[derive(Args, Clone, Debug)]
pub struct ConfigArgs {
    /// What is in force with this config of `pglock.toml`
    #[arg(short, long, value_name = "NAME")]
    config: Option<String>,
    /// Shows JSON
    #[arg(long)]
    json: bool,
}

/// A setting in force.
#[derive(Debug, Serialize)]
struct Setting {
    name: &'static str,
    value: String,
    source: String,
}

pub fn run(
    args: &ConfigArgs,
    connect: &ConnectionArgs,
    environment: &Environment,
) -> Result<Outcome, Failure> {
    let settings = Settings::find()?;
    let config = settings.config(args.config.as_deref())?;
    let database = connect.database(&settings, environment)?;
    let mut all = vec![Setting::new("database", database.shown(), &database.source)];
    let (limit, source) = settings.limit(None, config);
    all.push(Setting::new("limit", limit.to_string(), &source));
    for (name, blocking) in [("attributes", false), ("blocking_attributes", true)] {
        let (fields, source) = settings.attributes(&[], config, blocking)?;
        all.push(Setting::new(name, names(&fields), &source));
    }
    if let Some((name, config)) = config {
        all.extend(of_config(config, &Source::Config(name.to_owned())));
    }
    if settings.is_found() {
        let (file, source) = (&settings.file, Source::File(settings.path()));
        let databases: Vec<&str> = file.databases.keys().map(String::as_str).collect();
        let configs: Vec<&str> = file.configs.keys().map(String::as_str).collect();
        all.push(Setting::new("databases", databases.join(", "), &source));
        all.push(Setting::new("configs", configs.join(", "), &source));
    }
    match args.json {
        true => show_json(&all)?,
        false => show(&table(&all).render(&Screen::of_stdout()))?,
    }
    Ok(Outcome::Done)
}

impl Setting {
    fn new(name: &'static str, value: String, source: &Source) -> Self {
        let source = source.to_string();
        Self {
            name,
            value,
            source,
        }
    }
}

fn names(fields: &[&Field]) -> String {
    let names: Vec<&str> = fields.iter().map(|field| field.name).collect();
    names.join(", ")
}

fn of_config(config: &Named, source: &Source) -> [Setting; 4] {
    let filters: Vec<&str> = config
        .filters
        .iter()
        .map(|it| it.get_ref().as_str())
        .collect();
    [
        Setting::new("on", config.on.join(", "), source),
        Setting::new("filters", filters.join(", "), source),
        Setting::new("blocking", config.blocking.to_string(), source),
        Setting::new("expanded", config.expanded.to_string(), source),
    ]
}

fn table(settings: &[Setting]) -> Table {
    let cells = |it: &Setting| [it.name, &it.value, &it.source].map(clean).to_vec();
    Table {
        titles: ["SETTING", "VALUE", "FROM"].map(str::to_owned).to_vec(),
        rows: settings
            .iter()
            .map(|it| (Colour::Plain, cells(it)))
            .collect(),
    }
}
