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

use crate::connection::{ConnectionArgs, Environment};
use crate::failure::{Failure, Outcome};
use crate::settings::Settings;
use crate::span::parse_span;
use crate::top_feed::Feed;
use crate::top_state::{State, Wish};
use crate::top_view;

/// How long a key may have to wait.
const TICK: Duration = Duration::from_millis(50);

/// How the view is kept up to date.
#[derive(Args, Clone, Debug)]
pub struct TopArgs {
    /// How often to look
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    interval: Duration,
}

/// Each look copies the server's lock table, which holds others up.
fn interval(text: &str) -> Result<Duration, String> {
    let interval = parse_span(text)?;
    match interval >= Duration::from_millis(100) {
        true => Ok(interval),
        false => Err("looking more often than each 100ms holds others up".to_owned()),
    }
}

pub fn run(
    args: &TopArgs,
    connect: &ConnectionArgs,
    environment: &Environment,
) -> Result<Outcome, Failure> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Failure::Usage("`pglock top` wants a terminal".to_owned()));
    }
    let settings = Settings::find()?;
    let database = connect.database(&settings, environment)?;
    // What cannot be reached at first is an error, and not waited for.
    let conn = database.connect()?;
    let ended = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&ended);
    let end = move || {
        flag.store(true, Ordering::SeqCst);
        // Where the terminal is gone, looking for a key does not return.
        thread::sleep(10 * TICK);
        ratatui::restore();
        exit(0);
    };
    ctrlc::set_handler(end).map_err(|error| Failure::Failed(error.to_string()))?;
    let feed = Feed::start(conn, database, args.interval);
    // It also makes a panic, on whichever thread, give the terminal back first.
    let mut terminal = ratatui::try_init()?;
    let result = watch(&mut terminal, &feed, &ended);
    ratatui::try_restore()?;
    result.map(|()| Outcome::Done)
}

/// Shows what the feed brings, and does what the keys say.
fn watch(terminal: &mut DefaultTerminal, feed: &Feed, ended: &AtomicBool) -> Result<(), Failure> {
    let mut state = State::default();
    let mut is_stale = true;
    // Debug builds panic on demand, for the test that the terminal comes back from that.
    let panics = cfg!(debug_assertions) && std::env::var_os("PGLOCK_TEST_PANIC").is_some();
    while !ended.load(Ordering::SeqCst) {
        loop {
            match feed.news.try_recv() {
                Ok(news) => state.learn(news),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    return Err(Failure::Failed("the feed has ended".to_owned()));
                }
            }
            is_stale = true;
        }
        if is_stale {
            terminal.draw(|frame| top_view::draw(&mut state, frame))?;
        }
        assert!(!panics, "a panic was asked for");
        is_stale = event::poll(TICK)?;
        if !is_stale {
            continue;
        }
        if let Event::Key(key) = event::read()? {
            if key.kind == KeyEventKind::Release {
                continue;
            }
            match state.press(key) {
                Some(Wish::Quit) => return Ok(()),
                Some(Wish::Signal(victim, kind)) => feed.signal(victim, kind),
                None => {}
            }
        }
    }
    Ok(())
}
