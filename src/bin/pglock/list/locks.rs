//! `pglock ls`.

use clap::Args;
use diesel::PgConnection;
use diesel_pglock::PgActivity;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value as Json};

use super::field::{Field, fields};
use super::filter::{Filter, FilterError};
use super::row::Row;
use super::selection::{Blockers, Selection};
use crate::arguments::similar_command;
use crate::connect::{ActiveConfig, LimitArgs, Settings};
use crate::connect::{ConnectionArgs, Environment};
use crate::failure::{Failure, Outcome};
use crate::output::show_json;
use crate::output::{Colour, Screen, note, show};
use crate::output::{Line, Table};
use crate::signal::ActionArgs;

/// The locks to list, and the format.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct ListArgs {
    /// Only the locks of these sessions
    #[arg(value_name = "PID", value_parser = parse_pid)]
    pids: Vec<i32>,
    /// Only locks on this table, with its schema or found by the search_path; repeatable
    #[arg(short, long, value_name = "TABLE")]
    on: Vec<String>,
    /// Only locks with `FIELD=VALUE`, or one of != < <= > >= ~; repeatable, and all must match
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<Filter>,
    /// Shows these fields, separated by commas; repeatable
    #[arg(
        short = 'a',
        long,
        visible_alias = "attribute",
        value_name = "FIELDS",
        value_delimiter = ','
    )]
    pub columns: Vec<String>,
    /// Only locks that sessions wait for, each with its blockers
    #[arg(short, long)]
    blocking: bool,
    /// Only locks that sessions wait for, each with its roots: blockers that do not wait
    #[arg(short, long)]
    roots: bool,
    /// The maximum number of rows; default: 25
    #[arg(short, long, value_name = "NUMBER", conflicts_with = "action")]
    pub limit: Option<usize>,
    /// Shows one line for each field, with texts in full
    #[arg(short, long)]
    expanded: bool,
    /// Uses this config of `pglock.toml`; filters add to it, other options override it
    #[arg(short, long, value_name = "NAME")]
    config: Option<String>,
    /// Connects to the other databases of the server too, to name their relations
    #[arg(long)]
    names: bool,
    /// Shows JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    action: ActionArgs,
    #[command(flatten)]
    timeout: LimitArgs,
}

/// Parses a pid. A word in its place is most likely a mistyped command.
pub fn parse_pid(text: &str) -> Result<i32, String> {
    text.parse().map_err(|_| {
        let command = similar_command(text);
        let advice = command.map(|name| format!("; did you mean `pglock {name}`?"));
        format!("not a pid{}", advice.unwrap_or_default())
    })
}

/// The rows to show.
struct List {
    rows: Vec<Row>,
    /// The number of rows before the limit.
    found: usize,
    /// The fields of the columns.
    fields: Vec<&'static Field>,
}

pub fn run(
    args: ListArgs,
    connect: &ConnectionArgs,
    environment: &Environment,
) -> Result<Outcome, Failure> {
    let settings = Settings::find()?;
    let config = settings.config(args.config.as_deref())?;
    let selection = args.selection(config)?;
    let fields = settings.attributes(&args.columns, config, selection.is_blocking())?;
    check(&fields.value, &selection)?;
    let limit = settings.limit(args.limit, config).value;

    let named = config.and_then(|it| it.settings.database.as_ref());
    let connect = connect.or_named(named);
    let database = connect.database(&settings, environment)?;
    let mut conn = database.connect()?;
    let action = config.map_or(args.action, |config| {
        let config = config.settings;
        args.action.or(config.signal(), config.queue, config.yes)
    });
    if let Some(kind) = action.kind() {
        let selection = selection.for_signals(action.hits_queue());
        return action.run(kind, &selection, &mut conn, args.timeout, args.json);
    }
    let load = |conn: &mut PgConnection| selection.load(conn, limit);
    let mut listing = args.timeout.within(&mut conn, load)?;
    if args.names {
        listing.name_relations(&database, args.timeout)?;
    }
    let list = List {
        rows: listing.rows,
        found: listing.found,
        fields: fields.value,
    };
    if args.json {
        list.show_json(&args, &selection)?;
    } else {
        list.show(args.expanded || config.is_some_and(|it| it.settings.expanded))?;
    }
    Ok(Outcome::of_found(list.found))
}

impl ListArgs {
    /// Returns the time limit if there is no other option: the overview is shown then.
    pub fn of_overview(&self) -> Option<LimitArgs> {
        let timeout = self.timeout;
        let others = Self {
            timeout,
            ..Self::default()
        };
        (*self == others).then_some(timeout)
    }

    /// Adds the filters of the config to the options.
    fn selection(&self, config: Option<ActiveConfig<'_>>) -> Result<Selection, Failure> {
        let config = config.map(|config| config.settings);
        let mut filters = self.filter.clone();
        for filter in config.into_iter().flat_map(|config| config.filters()) {
            let parsed = filter.parse();
            filters.push(parsed.map_err(|error: FilterError| Failure::Usage(error.to_string()))?);
        }
        let on = match config {
            Some(config) if self.on.is_empty() => &config.on,
            _ => &self.on,
        };
        Ok(Selection {
            pids: match config {
                Some(config) if self.pids.is_empty() => config.pids.clone(),
                _ => self.pids.clone(),
            },
            on: on.clone(),
            filters,
            blockers: match self.blocking || config.is_some_and(|config| config.blocking) {
                _ if self.roots || config.is_some_and(|it| it.roots) => Blockers::Roots,
                true => Blockers::Direct,
                false => Blockers::None,
            },
        })
    }
}

/// Refuses fields of blockers without `--blocking`.
fn check(attributes: &[&'static Field], selection: &Selection) -> Result<(), Failure> {
    let filtered = selection.filters.iter().map(|filter| filter.field);
    let mut fields = attributes.iter().copied().chain(filtered);
    match fields.find(|field| field.is_blocking()) {
        Some(field) if !selection.is_blocking() => Err(Failure::Usage(format!(
            "field `{}` needs --blocking or --roots",
            field.name
        ))),
        _ => Ok(()),
    }
}

impl List {
    /// Shows the chosen fields, or all.
    fn show_json(&self, args: &ListArgs, selection: &Selection) -> Result<(), Failure> {
        let all = fields().filter(|field| selection.is_blocking() || !field.is_blocking());
        let fields = if args.columns.is_empty() {
            all.collect()
        } else {
            self.fields.clone()
        };
        let rows = &self.rows;
        show_json(&Objects { rows, fields })
    }

    fn show(&self, is_expanded: bool) -> Result<(), Failure> {
        if self.found == 0 {
            return note("no locks\n");
        }
        if is_expanded {
            show(&expanded(&self.rows, &self.fields))?;
        } else {
            show_table(&table(&self.rows, &self.fields))?;
        }
        note(hint(&self.rows))?;
        self.note_hidden()
    }

    fn note_hidden(&self) -> Result<(), Failure> {
        let (shown, found) = (self.rows.len(), self.found);
        if shown == found {
            return Ok(());
        }
        note(&format!("{shown} of {found} locks; --limit shows more\n"))
    }
}

fn table(rows: &[Row], fields: &[&'static Field]) -> Table {
    let line = |row| Line {
        colour: colour(row),
        cells: fields.iter().map(|field| field.cell(row)).collect(),
    };
    let columns = fields.iter().map(|field| field.column());
    Table::of_columns(columns.collect(), rows.iter().map(line).collect())
}

fn colour(row: &Row) -> Colour {
    if row.lock.granted {
        Colour::Plain
    } else {
        Colour::Yellow
    }
}

/// Returns a hint if the role lacks the privilege to read some sessions.
pub fn hint(rows: &[Row]) -> &'static str {
    let blockers = rows
        .iter()
        .filter_map(|row| row.blocker.as_ref()?.activity.as_ref());
    let mut activities = rows
        .iter()
        .filter_map(|row| row.lock.activity.as_ref())
        .chain(blockers);
    hint_if(activities.any(PgActivity::is_hidden))
}

/// Returns the hint at activity that is hidden from the role.
pub fn hint_if(is_hidden: bool) -> &'static str {
    match is_hidden {
        true => {
            "the activity of some sessions is hidden from this role; members of pg_read_all_stats see it\n"
        }
        false => "",
    }
}

/// Shows a table, and names the columns that do not fit.
pub fn show_table(table: &Table) -> Result<(), Failure> {
    let screen = Screen::of_stdout();
    show(&table.render(&screen))?;
    let left_out = table.left_out(&screen);
    if left_out.is_empty() {
        return Ok(());
    }
    let names = left_out.join(", ");
    let text = format!("columns that do not fit: {names}; --expanded shows them\n");
    note(&screen.fit(&text))
}

/// Writes a line for each field of each lock.
fn expanded(rows: &[Row], fields: &[&'static Field]) -> String {
    let names = fields.iter().map(|field| field.name.len());
    let width = names.max().unwrap_or_default();
    let mut text = String::new();
    for (i, row) in rows.iter().enumerate() {
        text += &format!("-[ lock {} ]{}\n", i + 1, "-".repeat(30));
        for field in fields {
            let value = field.lines(row);
            for (i, line) in value.split('\n').enumerate() {
                let name = if i == 0 { field.name } else { "" };
                text += format!("{name:width$} | {line}").trim_end();
                text.push('\n');
            }
        }
    }
    text
}

/// The rows as objects, of which one at a time is made.
struct Objects<'r> {
    rows: &'r [Row],
    fields: Vec<&'static Field>,
}

impl Serialize for Objects<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.rows.iter().map(|row| object(row, &self.fields)))
    }
}

/// Writes `activity.query` as `query` of an object `activity`.
fn object(row: &Row, fields: &[&'static Field]) -> Json {
    let mut object = Map::new();
    for field in fields {
        let value = serde_json::to_value((field.get)(row)).unwrap_or_default();
        insert(&mut object, field.name, value);
    }
    Json::Object(object)
}

fn insert(object: &mut Map<String, Json>, name: &str, value: Json) {
    let Some((outer, inner)) = name.split_once('.') else {
        object.insert(name.to_owned(), value);
        return;
    };
    let nested = object.entry(outer).or_insert_with(|| Map::new().into());
    if let Json::Object(nested) = nested {
        nested.insert(inner.to_owned(), value);
    }
}
