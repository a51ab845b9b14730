//! `pglock top`.

use std::io::{self, IsTerminal};
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::TryRecvError;
use std::thread;
use std::time::Duration;

use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};

use super::feed::Feed;
use super::state::{Command, State};
use super::view as top_view;
use crate::connect::{ConnectionArgs, Environment};
use crate::connect::{LimitArgs, Settings};
use crate::duration::parse_interval;
use crate::failure::{Failure, Outcome};

/// The delay of a key, at most.
const TICK: Duration = Duration::from_millis(50);

/// Options of the live view.
#[derive(Args, Clone, Debug)]
pub struct TopArgs {
    /// Polls the server at this interval
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_interval)]
    interval: Duration,
    #[command(flatten)]
    timeout: LimitArgs,
}

pub fn run(
    args: &TopArgs,
    connect: &ConnectionArgs,
    environment: &Environment,
) -> Result<Outcome, Failure> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Failure::Usage("`pglock top` needs a terminal".to_owned()));
    }
    let settings = Settings::find()?;
    let database = connect.database(&settings, environment)?;
    // Only a connection that was open once is opened again: the first failure is an error.
    let conn = database.connect()?;
    let ended = end_on_signal()?;
    let feed = Feed::start(conn, database, args.interval, args.timeout);
    // This also restores the terminal after a panic of any thread.
    let mut terminal = ratatui::try_init()?;
    let result = watch(&mut terminal, &feed, State::new(args.interval), &ended);
    ratatui::try_restore()?;
    result.map(|()| Outcome::Done)
}

/// Returns a flag that SIGINT, SIGTERM and SIGHUP set.
fn end_on_signal() -> Result<Arc<AtomicBool>, Failure> {
    let ended = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&ended);
    let end = move || {
        flag.store(true, Ordering::SeqCst);
        // If the terminal is closed, reading a key does not return.
        thread::sleep(10 * TICK);
        ratatui::restore();
        exit(0);
    };
    ctrlc::set_handler(end).map_err(|error| Failure::Failed(error.to_string()))?;
    Ok(ended)
}

/// Shows the updates and follows the keys until the view is closed.
fn watch(
    terminal: &mut DefaultTerminal,
    feed: &Feed,
    mut state: State,
    ended: &AtomicBool,
) -> Result<(), Failure> {
    let mut is_stale = true;
    while !ended.load(Ordering::SeqCst) {
        is_stale |= apply_updates(&mut state, feed)? || state.is_old();
        if is_stale {
            terminal.draw(|frame| top_view::draw(&mut state, frame))?;
        }
        panic_on_demand();
        is_stale = event::poll(TICK)?;
        if !is_stale {
            continue;
        }
        match read_command(&mut state)? {
            Some(Command::Quit) => return Ok(()),
            Some(Command::Signal(request)) => feed.signal(request),
            Some(Command::Poll(interval)) => feed.poll(interval),
            None => {}
        }
    }
    Ok(())
}

/// Returns true if there were updates.
fn apply_updates(state: &mut State, feed: &Feed) -> Result<bool, Failure> {
    let mut is_changed = false;
    loop {
        match feed.updates.try_recv() {
            Ok(update) => state.apply(update),
            Err(TryRecvError::Empty) => return Ok(is_changed),
            Err(TryRecvError::Disconnected) => {
                return Err(Failure::Failed("the feed has ended".to_owned()));
            }
        }
        is_changed = true;
    }
}

fn read_command(state: &mut State) -> Result<Option<Command>, Failure> {
    Ok(match event::read()? {
        Event::Key(key) if key.kind != KeyEventKind::Release => state.press(key),
        _ => None,
    })
}

/// Debug builds panic on demand: a test checks that the terminal is restored.
fn panic_on_demand() {
    let panics = cfg!(debug_assertions) && std::env::var_os("PGLOCK_TEST_PANIC").is_some();
    assert!(!panics, "a panic was requested");
}
