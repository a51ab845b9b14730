//! Runs a throwaway server by itself: prints its URL, and ends with its standard input.

use std::error::Error;
use std::io;

use pglock_sandbox::Sandbox;

#[expect(clippy::print_stdout, reason = "the URL is what this program is for")]
fn main() -> Result<(), Box<dyn Error>> {
    let server = Sandbox::start()?;
    println!("{}", server.url());
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}
