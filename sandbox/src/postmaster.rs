//! The state of a server, read from its files.

use crate::directory::Directory;

/// The state of a server.
#[derive(Debug, PartialEq)]
pub(crate) enum State {
    Starting,
    Ready,
    Ended,
}

/// Returns the state of the server that follows the one with process id `previous`.
///
/// This needs no connection: PostgreSQL writes `ready` into the eighth line of
/// `postmaster.pid`, and the supervisor writes the file `exited` when a server ends.
pub(crate) fn state(directory: &Directory, previous: Option<&str>) -> State {
    let is_new = |pid: &Option<String>| pid.is_some() && pid.as_deref() != previous;
    let status = directory.read("data/postmaster.pid");
    if is_new(&ended(directory)) {
        State::Ended
    } else if is_new(&first_line(&status)) && status.lines().nth(7).map(str::trim) == Some("ready")
    {
        State::Ready
    } else {
        State::Starting
    }
}

/// Returns the process id of the server that runs, or ran last.
pub(crate) fn pid(directory: &Directory) -> Option<String> {
    first_line(&directory.read("data/postmaster.pid")).or_else(|| ended(directory))
}

fn ended(directory: &Directory) -> Option<String> {
    first_line(&directory.read("exited"))
}

fn first_line(text: &str) -> Option<String> {
    text.lines().next().map(str::to_owned)
}
