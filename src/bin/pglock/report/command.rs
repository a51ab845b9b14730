//! `pglock report`.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;

use super::history::History;
use super::{page, recording};
use crate::failure::{Failure, Outcome};
use crate::output::{note, show};

/// The recording, and the page.
#[derive(Args, Clone, Debug)]
pub struct ReportArgs {
    /// The recording: lines of `pglock watch --json`; `-` is stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Writes the page to this file; default: stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub fn run(args: &ReportArgs) -> Result<Outcome, Failure> {
    let recording = recording::parse(&read(&args.file)?, &args.file)?;
    if recording.is_cut {
        note("the last line of the recording is cut off, and left out\n")?;
    }
    let page = page::page(&History::of(&recording));
    match &args.output {
        None => show(&page)?,
        Some(path) => fs::write(path, page)
            .map_err(|error| Failure::Failed(format!("`{}`: {error}", path.display())))?,
    }
    Ok(Outcome::Done)
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = match path.to_str() {
        Some("-") => io::stdin().read_to_end(&mut bytes).map(drop),
        _ => fs::read(path).map(|read| bytes = read),
    };
    read.map_err(|error| Failure::Usage(format!("`{}`: {error}", path.display())))?;
    Ok(bytes)
}
