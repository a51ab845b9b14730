//! Runs a throwaway server: prints its URL, and ends when standard input ends.

use std::error::Error;
use std::io;

use pglock_sandbox::Sandbox;

#[expect(clippy::print_stdout, reason = "the URL is the output of this program")]
fn main() -> Result<(), Box<dyn Error>> {
    let server = Sandbox::start()?;
    println!("{}", server.url());
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}
