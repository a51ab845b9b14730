//! `pglock watch`.

use std::process::exit;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use clap::Args;

use super::follower::Follower;
use super::poller::{Message, PollSettings, Poller};
use crate::connect::{ConnectionArgs, Environment, LimitArgs, Settings};
use crate::duration::{parse_duration, parse_interval};
use crate::failure::{Failure, Outcome};
use crate::output::is_closed;

/// The time within which the command notices that the reader of its output has gone.
const TICK: Duration = Duration::from_millis(500);

/// The time that connecting may take, and the answer beyond the limit of a statement.
const MARGIN: Duration = Duration::from_secs(12);

/// Options of the history.
#[derive(Args, Clone, Debug)]
pub struct WatchArgs {
    /// Only episodes that have lasted this long; default: all
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    above: Option<Duration>,
    /// Polls the server at this interval
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_interval)]
    interval: Duration,
    /// Writes lines of JSON, a recording for `pglock report`
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    timeout: LimitArgs,
}

pub fn run(
    args: &WatchArgs,
    connect: &ConnectionArgs,
    environment: &Environment,
) -> Result<Outcome, Failure> {
    let database = connect.database(&Settings::find()?, environment)?;
    // Only a connection that was open once is opened again: the first failure is an error.
    let conn = database.connect()?;
    let (sender, messages) = channel();
    end_on_signal(sender.clone())?;
    let settings = PollSettings {
        database,
        interval: args.interval,
        limit: args.timeout.limit(),
        messages: sender,
    };
    let above = args.above.unwrap_or_default();
    let above = TimeDelta::from_std(above).unwrap_or(TimeDelta::MAX);
    let mut follower = Follower::new(above, args.json);
    let poller = Poller::start(0, Some(conn), &settings);
    follow(&mut follower, poller, &settings, &messages)?;
    follower.stop()?;
    Ok(Outcome::Done)
}

/// Sends a message on SIGINT, SIGTERM and SIGHUP.
fn end_on_signal(messages: Sender<Message>) -> Result<(), Failure> {
    let end = move || {
        let _ = messages.send(Message::Interrupted);
        // A reader that does not read would hold up the last line for ever.
        thread::sleep(2 * TICK);
        exit(0);
    };
    ctrlc::set_handler(end).map_err(|error| Failure::Failed(error.to_string()))
}

/// Writes what happens until the command is interrupted, or the reader has gone.
fn follow(
    follower: &mut Follower,
    mut poller: Poller,
    settings: &PollSettings,
    messages: &Receiver<Message>,
) -> Result<(), Failure> {
    let patience = settings.interval + settings.limit + MARGIN;
    let mut heard = Instant::now();
    loop {
        match messages.recv_timeout(TICK) {
            Ok(Message::Interrupted) => return Ok(()),
            Ok(Message::Graph(number, graph, now)) if number == poller.number => {
                heard = Instant::now();
                follower.observe(&graph, now)?;
            }
            Ok(Message::Lost(number, error)) if number == poller.number => {
                heard = Instant::now();
                follower.lose(&error)?;
            }
            // From a poller that was given up.
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        if heard.elapsed() > patience {
            heard = Instant::now();
            follower.lose("the server does not answer")?;
            poller = Poller::start(poller.number + 1, None, settings);
        }
        if is_closed() {
            return Err(Failure::ClosedPipe);
        }
    }
}
