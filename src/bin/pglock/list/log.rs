//! `pglock log`: the signals that are in the signal log.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use clap::Args;
use diesel::PgConnection;
use diesel::dsl::now;
use diesel::pg::expression::extensions::IntervalDsl as _;
use diesel::prelude::*;
use diesel_pglock::SignalLog;
use diesel_pglock::internal::{ManualLog, format_duration};
use diesel_pglock::schema::signal_log;

use super::locks::show_table;
use crate::connect::{ConnectionArgs, Environment, LimitArgs};
use crate::duration::parse_duration;
use crate::failure::{Failure, Outcome};
use crate::output::{Column, Line, Table, clean, clean_query, note, show_json};

/// The entries to list.
#[derive(Args, Clone, Debug)]
pub struct LogArgs {
    /// Only signals that are no older
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    since: Option<Duration>,
    /// The maximum number of signals, the latest first; default: 25
    #[arg(
        short,
        long,
        value_name = "NUMBER",
        default_value_t = 25,
        hide_default_value = true
    )]
    limit: u32,
    /// Shows JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    timeout: LimitArgs,
}

/// The title of each column, its rank, and whether its cells may be cut.
const COLUMNS: [(&str, usize, bool); 11] = [
    ("SENT AT", 0, false),
    ("SIGNAL", 1, false),
    ("PID", 2, false),
    ("APPLICATION", 3, true),
    ("OUTCOME", 4, true),
    ("BLOCKED", 6, false),
    ("FOR", 7, false),
    ("AWAITED", 5, true),
    ("SENDER", 8, true),
    ("MIGRATION", 10, true),
    ("QUERY", 9, true),
];

pub fn run(
    args: &LogArgs,
    connect: &ConnectionArgs,
    environment: &Environment,
) -> Result<Outcome, Failure> {
    let mut conn = connect.connect(environment)?;
    let entries = args.timeout.within(&mut conn, |conn| load(conn, args))?;
    if args.json {
        show_json(&entries)?;
    } else if entries.is_empty() {
        note("no signals\n")?;
    } else {
        show_table(&table(&entries))?;
    }
    Ok(Outcome::of_found(entries.len()))
}

fn load(conn: &mut PgConnection, args: &LogArgs) -> Result<Vec<SignalLog>, Failure> {
    if ManualLog::find(conn)?.is_none_or(|log| !log.is_current()) {
        let text =
            "the database has no signal log, or an old one; `pglock migrate install` makes it";
        return Err(Failure::Failed(text.to_owned()));
    }
    let mut query = SignalLog::query()
        .order(signal_log::id.desc())
        .limit(args.limit.into())
        .into_boxed();
    if let Some(since) = args.since {
        let seconds = since.as_secs_f64();
        query = query.filter((signal_log::sent_at + seconds.seconds()).gt(now));
    }
    Ok(query.load(conn)?)
}

fn table(entries: &[SignalLog]) -> Table {
    let columns = COLUMNS.map(|(title, rank, is_text)| Column {
        title: title.to_owned(),
        rank,
        is_text,
    });
    let lines = entries.iter().map(|entry| Line::plain(cells(entry)));
    Table::of_columns(columns.to_vec(), lines.collect())
}

fn cells(entry: &SignalLog) -> Vec<String> {
    let text = |text: &Option<String>| text.as_deref().map(clean).unwrap_or_default();
    let is_blocking = entry.awaited.is_some() || entry.blocked_pid != 0;
    let blocked = is_blocking.then(|| entry.blocked_pid.to_string());
    let blocked_for = TimeDelta::try_milliseconds((entry.blocked_seconds * 1000.0) as i64);
    vec![
        time(entry.sent_at),
        clean(&entry.kind),
        entry.pid.to_string(),
        text(&entry.application_name),
        clean(&entry.outcome),
        blocked.unwrap_or_default(),
        blocked_for
            .filter(|_| is_blocking)
            .map(format_duration)
            .unwrap_or_default(),
        text(&entry.awaited),
        clean(&entry.sender_application_name),
        text(&entry.work),
        clean_query(entry.query.as_deref().unwrap_or_default()),
    ]
}

fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}
