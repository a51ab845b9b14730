//! What the tests need to look at a server from outside.

pub mod session;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// Waits until the condition holds, which a loaded machine may take a while for.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Tells whether a process exists, by its id.
pub fn is_alive(pid: u32) -> bool {
    let check = format!("kill -0 {pid} 2>/dev/null");
    Command::new("sh")
        .args(["-c", &check])
        .status()
        .unwrap()
        .success()
}

/// The process id of the server itself.
pub fn postmaster(socket_dir: &Path) -> u32 {
    let file = fs::read_to_string(socket_dir.join("data/postmaster.pid")).unwrap();
    file.lines().next().unwrap().parse().unwrap()
}
