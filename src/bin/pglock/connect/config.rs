//! `pglock config`.

use clap::Args;
use serde::Serialize;

use super::connection::{ConnectionArgs, Environment};
use super::settings::{ActiveConfig, Settings, Source};
use crate::failure::{Failure, Outcome};
use crate::list::Field;
use crate::output::clean;
use crate::output::show_json;
use crate::output::{Line, Table};
use crate::output::{Screen, show};

/// Options of `pglock config`.
#[derive(Args, Clone, Debug)]
pub struct ConfigArgs {
    /// Shows the settings with this config of `pglock.toml`
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
    let named = config.and_then(|it| it.settings.database.as_ref());
    let database = connect.or_named(named).database(&settings, environment)?;
    let mut all = vec![Setting::new("database", database.shown(), &database.source)];
    all.extend(of_list(&settings, config)?);
    all.extend(config.into_iter().flat_map(of_config));
    if settings.is_found() {
        all.extend(of_file(&settings));
    }
    if args.json {
        show_json(&all)?;
    } else {
        show(&table(&all).render(&Screen::of_stdout()))?;
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

fn of_list(settings: &Settings, config: Option<ActiveConfig<'_>>) -> Result<[Setting; 3], Failure> {
    let limit = settings.limit(None, config);
    let attributes = settings.attributes(&[], config, false)?;
    let blocking = settings.attributes(&[], config, true)?;
    Ok([
        Setting::new("limit", limit.value.to_string(), &limit.source),
        Setting::new("attributes", names(&attributes.value), &attributes.source),
        Setting::new(
            "blocking_attributes",
            names(&blocking.value),
            &blocking.source,
        ),
    ])
}

fn names(fields: &[&Field]) -> String {
    let names: Vec<&str> = fields.iter().map(|field| field.name).collect();
    names.join(", ")
}

fn of_config(config: ActiveConfig<'_>) -> Vec<Setting> {
    let (settings, source) = (config.settings, config.source());
    let setting = |name, value| Setting::new(name, value, &source);
    let pids: Vec<String> = settings.pids.iter().map(ToString::to_string).collect();
    let signal = settings.signal().map(|kind| kind.to_string());
    vec![
        setting("pids", pids.join(", ")),
        setting("on", settings.on.join(", ")),
        setting("filters", settings.filters().join(", ")),
        setting("blocking", settings.blocking.to_string()),
        setting("roots", settings.roots.to_string()),
        setting("queue", settings.queue.to_string()),
        setting("expanded", settings.expanded.to_string()),
        setting("signal", signal.unwrap_or_else(|| "none".to_owned())),
        setting("yes", settings.yes.to_string()),
    ]
}

fn of_file(settings: &Settings) -> [Setting; 2] {
    let (file, source) = (&settings.file, Source::File(settings.path()));
    let databases: Vec<&str> = file.databases.keys().map(String::as_str).collect();
    let configs: Vec<&str> = file.configs.keys().map(String::as_str).collect();
    [
        Setting::new("databases", databases.join(", "), &source),
        Setting::new("configs", configs.join(", "), &source),
    ]
}

fn table(settings: &[Setting]) -> Table {
    let cells = |it: &Setting| [it.name, &it.value, &it.source].map(clean).to_vec();
    let lines = settings.iter().map(|it| Line::plain(cells(it)));
    Table::new(["SETTING", "VALUE", "FROM"], lines.collect())
}
