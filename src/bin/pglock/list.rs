//! `pglock ls`.

use clap::Args;
use serde_json::{Map, Value as Json};

use crate::action::ActionArgs;
use crate::connection::{ConnectionArgs, Environment};
use crate::failure::{Failure, Outcome};
use crate::field::{Field, fields};
use crate::filter::{Filter, FilterError};
use crate::json::show_json;
use crate::output::{Colour, Screen, note, show};
use crate::row::Row;
use crate::selection::Selection;
use crate::settings::Settings;
use crate::settings_file::Named;
use crate::table::Table;
use crate::terminal_text::cut;
use crate::value::Value;

/// Which locks, and how they are shown.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct ListArgs {
    /// Only the locks of these sessions
    #[arg(value_name = "PID")]
    pids: Vec<i32>,
    /// Only locks on this table, by schema and name or along the search_path; may be repeated
    #[arg(short, long, value_name = "TABLE")]
    on: Vec<String>,
    /// Only locks with `FIELD=VALUE`, or another of != < <= > >= ~; may be repeated, and all hold
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<Filter>,
    /// Shows this field; may be repeated
    #[arg(short, long, value_name = "FIELD")]
    pub attribute: Vec<String>,
    /// Only locks that are waited for, each with who is in its way
    #[arg(short, long)]
    blocking: bool,
    /// Shows no more than so many; 25 unless said
    #[arg(short, long, value_name = "NUMBER")]
    pub limit: Option<usize>,
    /// Shows each lock on lines of its own, with texts in full
    #[arg(short, long)]
    expanded: bool,
    /// Goes by this config of `pglock.toml`; options add to it, or stand above it
    #[arg(short, long, value_name = "NAME")]
    config: Option<String>,
    /// Shows JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    action: ActionArgs,
}

pub fn run(
    args: ListArgs,
    connect: &ConnectionArgs,
    environment: &Environment,
) -> Result<Outcome, Failure> {
    let settings = Settings::find()?;
    let config = settings.config(args.config.as_deref())?;
    let selection = args.selection(config)?;
    let (attributes, _) = settings.attributes(&args.attribute, config, selection.blocking)?;
    check(&attributes, &selection)?;
    let (limit, _) = settings.limit(args.limit, config);

    let mut conn = connect.database(&settings, environment)?.connect()?;
    let mut rows = selection.load(&mut conn)?;
    let found = rows.len();
    rows.truncate(limit);
    if let Some(kind) = args.action.kind() {
        return args
            .action
            .run(kind, &rows, &selection, &mut conn, args.json);
    }
    let is_chosen = !args.attribute.is_empty();
    if args.json {
        let all = fields().filter(|field| selection.blocking || !field.is_blocking());
        let shown = if is_chosen { attributes } else { all.collect() };
        show_json(
            &rows
                .iter()
                .map(|row| object(row, &shown))
                .collect::<Vec<_>>(),
        )?;
    } else if args.expanded || config.is_some_and(|(_, it)| it.expanded) {
        show(&expanded(&rows, &attributes))?;
    } else if found > 0 {
        show(&table(&rows, &attributes).render(&Screen::of_stdout()))?;
    }
    match found {
        0 if !args.json => note("no locks\n")?,
        more if more > limit && !args.json => {
            note(&format!("{limit} of {more} locks; --limit shows more\n"))?;
        }
        _ => {}
    }
    Ok(if found == 0 {
        Outcome::Nothing
    } else {
        Outcome::Done
    })
}

impl ListArgs {
    /// The filters of a config hold beside those of the command line.
    fn selection(&self, config: Option<(&str, &Named)>) -> Result<Selection, Failure> {
        let config = config.map(|(_, config)| config);
        let mut filters = self.filter.clone();
        for filter in config.into_iter().flat_map(|config| &config.filters) {
            let parsed = filter.get_ref().parse();
            filters.push(parsed.map_err(|error: FilterError| Failure::Usage(error.to_string()))?);
        }
        let on = match config {
            Some(config) if self.on.is_empty() => &config.on,
            _ => &self.on,
        };
        Ok(Selection {
            pids: self.pids.clone(),
            on: on.clone(),
            filters,
            blocking: self.blocking || config.is_some_and(|config| config.blocking),
        })
    }
}

/// Refuses fields of who is in the way where nobody asked for that.
fn check(attributes: &[&'static Field], selection: &Selection) -> Result<(), Failure> {
    let of_filters = selection.filters.iter().map(|filter| filter.field);
    let asked = attributes
        .iter()
        .copied()
        .chain(of_filters)
        .find(|field| field.is_blocking());
    match asked {
        Some(field) if !selection.blocking => Err(Failure::Usage(format!(
            "the field `{}` is there with --blocking",
            field.name
        ))),
        _ => Ok(()),
    }
}

/// Who has no session is a prepared transaction.
fn cell(field: &Field, row: &Row) -> String {
    match (field.name, (field.get)(row)) {
        ("pid", Value::None) | ("blocking.pid", Value::Integer(0)) => "prepared".to_owned(),
        (_, value) => value.cell(),
    }
}

fn table(rows: &[Row], attributes: &[&'static Field]) -> Table {
    let cells = |row| attributes.iter().map(|field| cell(field, row)).collect();
    let colour = |row: &Row| {
        if row.lock.granted {
            Colour::Plain
        } else {
            Colour::Yellow
        }
    };
    Table {
        titles: attributes.iter().map(|field| field.title()).collect(),
        rows: rows.iter().map(|row| (colour(row), cells(row))).collect(),
    }
}

/// A line for each field of each lock.
fn expanded(rows: &[Row], attributes: &[&'static Field]) -> String {
    let widest = attributes
        .iter()
        .map(|field| field.name.len())
        .max()
        .unwrap_or_default();
    let mut text = String::new();
    for (i, row) in rows.iter().enumerate() {
        text += &format!("-[ lock {} ]{}\n", i + 1, "-".repeat(30));
        for field in attributes {
            let cell = cut(&cell(field, row), usize::MAX);
            text += format!("{:widest$} | {cell}", field.name).trim_end();
            text.push('\n');
        }
    }
    text
}

/// `activity.query` is `query` in an object `activity`.
fn object(row: &Row, shown: &[&'static Field]) -> Json {
    let mut object = Map::new();
    for field in shown {
        let value = serde_json::to_value((field.get)(row)).unwrap_or_default();
        match field.name.split_once('.') {
            None => drop(object.insert(field.name.to_owned(), value)),
            Some((of, name)) => {
                let inner = object.entry(of).or_insert_with(|| Json::Object(Map::new()));
                if let Json::Object(inner) = inner {
                    inner.insert(name.to_owned(), value);
                }
            }
        }
    }
    Json::Object(object)
}
