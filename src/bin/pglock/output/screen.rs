//! Output to stdout and stderr; each text is written at once.

use std::io::{self, IsTerminal, Write};

use super::terminal_text::{clean, cut};
use crate::failure::Failure;

/// The width of a cell, at most, if stdout is not a terminal.
pub const MAX_CELL: usize = 200;

/// The properties of stdout.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    /// The columns of the terminal; `None` for a file or a pipe.
    pub width: Option<usize>,
    /// The lines of the terminal; `None` for a file or a pipe.
    pub height: Option<usize>,
    pub colour: bool,
}

impl Screen {
    pub fn of_stdout() -> Self {
        let is_terminal = io::stdout().is_terminal();
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let size = terminal_size::terminal_size();
        let (width, height) = size.map_or((80, 24), |(width, height)| (width.0, height.0));
        Self {
            width: is_terminal.then_some(width.into()),
            height: is_terminal.then_some(height.into()),
            colour: is_terminal && !is_set("NO_COLOR") && !is_dumb,
        }
    }

    pub fn paint(&self, colour: Colour, text: &str) -> String {
        match colour {
            Colour::Bold if self.colour => format!("\u{1b}[1m{text}\u{1b}[0m"),
            Colour::Red if self.colour => format!("\u{1b}[31m{text}\u{1b}[0m"),
            Colour::Yellow if self.colour => format!("\u{1b}[33m{text}\u{1b}[0m"),
            _ => text.to_owned(),
        }
    }

    /// Cuts each line to the width of the terminal.
    pub fn fit(&self, text: &str) -> String {
        let Some(width) = self.width else {
            return text.to_owned();
        };
        text.lines().map(|line| cut(line, width) + "\n").collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    Plain,
    Bold,
    Red,
    Yellow,
}

/// Writes to stdout.
pub fn show(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Returns true if the reader of stdout has gone; a command that seldom writes would not notice.
#[cfg(unix)]
pub fn is_closed() -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    let out = io::stdout();
    let mut fds = [PollFd::new(&out, PollFlags::empty())];
    let polled = poll(&mut fds, Some(&Timespec::default()));
    let gone = PollFlags::ERR | PollFlags::HUP;
    polled.is_ok() && fds[0].revents().intersects(gone)
}

/// Elsewhere the next write notices.
#[cfg(not(unix))]
pub fn is_closed() -> bool {
    false
}

/// Asks a question; only `y` and `yes` confirm.
pub fn ask(question: &str) -> Result<bool, Failure> {
    note(question)?;
    let mut answer = String::new();
    if io::stdin().read_line(&mut answer)? == 0 {
        note("\n")?;
    }
    let answer = answer.trim();
    Ok(answer.eq_ignore_ascii_case("y") || answer.eq_ignore_ascii_case("yes"))
}

/// Writes a text to stderr that is not part of the result.
pub fn note(text: &str) -> Result<(), Failure> {
    let mut out = io::stderr().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Writes an error to stderr; a server's message may have several lines.
pub fn print_error(text: &str) {
    let lines = text.lines().map(clean).filter(|line| !line.is_empty());
    let lines: Vec<String> = lines.collect();
    if !lines.is_empty() {
        // A closed stderr cannot be reported anywhere.
        let _ = note(&format!("pglock: {}\n", lines.join("\n  ")));
    }
}
