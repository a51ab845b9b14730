//! `pglock report`.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use diesel::connection::SimpleConnection;

use super::watch::{Night, Watch};
use super::{Folder, named, ran};
use crate::support::{Waiting, pid, skipped, wait_until_blocked};

const HOSTILE: &str = "<script>document.title = 1</script>";

/// Records a night in which a hostile client blocks another, which gives up.
fn recording() -> (String, i32) {
    let night = Night::new(HOSTILE);
    let watch = Watch::start(&night.database, &["--json"]);
    let mut lines = vec![r#"{"event":"watching","time":"2026-01-31T12:00:00Z"}"#.to_owned()];
    let mut waiter = named(&night.database, "\"><img src=x onerror=alert(1)>");
    let waiter_pid = pid(&mut waiter);
    let query = format!("SELECT '{}' FROM users -- {HOSTILE}", "x".repeat(200));
    let thread = std::thread::spawn(move || waiter.batch_execute(&query));
    wait_until_blocked(&mut night.database.connect(), waiter_pid);
    lines.push(watch.line("\"started\""));
    let second = Waiting::on(&night.database, "SELECT FROM users");
    lines.push(watch.line("\"changed\""));
    drop(night.holder);
    lines.push(watch.line("\"ended\""));
    thread.join().unwrap().unwrap();
    second.finish().unwrap();
    lines.extend(watch.end().1);
    (lines.join("\n") + "\n", night.holder_pid)
}

/// The text of the page without the texts of sessions must not have changed its meaning.
fn assert_is_safe(page: &str) {
    for forbidden in ["<script", "<img", "javascript:", "http://", "https://"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    assert!(page.contains("&lt;script&gt;"), "{page}");
}

#[test]
fn a_recording_becomes_a_page_without_a_script() {
    let (recording, holder) = recording();
    let folder = Folder::new().with("night.jsonl", &recording);
    let report = ["report", "night.jsonl", "--output", "night.html"];
    let made = ran(&mut folder.command(&report));
    assert_eq!((made.code, &*made.out, &*made.err), (0, "", ""));
    let page = fs::read_to_string(folder.0.join("night.html")).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
    assert_is_safe(&page);
    for part in [
        "<svg ",
        &format!("<strong>{holder} &lt;script&gt;"),
        "2 sessions waited, at most 2 at once",
        "waits for AccessShareLock on relation public.users",
        "prefers-color-scheme: dark",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let shown = ran(&mut folder.command(&["report", "night.jsonl"]));
    assert_eq!((shown.code, shown.out), (0, page.clone()));
    let mut command = folder.command(&["report", "-"]);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(recording.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), page);
    view_in_a_browser(&folder, &page);
}

#[test]
fn a_recording_that_is_cut_off_is_read_and_other_errors_name_the_line() {
    let begin = r#"{"event":"watching","time":"2026-01-31T12:00:00Z"}"#;
    let folder = Folder::new()
        .with("cut.jsonl", &format!("{begin}\n{}", &begin[..20]))
        .with(
            "bad.jsonl",
            &format!("{begin}\n{begin}\n{}\n{begin}\n", &begin[..20]),
        )
        .with("empty.jsonl", "");
    let cut = ran(&mut folder.command(&["report", "cut.jsonl"]));
    assert_eq!(cut.code, 0, "{cut:?}");
    assert!(
        cut.err
            .contains("the last line of the recording is cut off"),
        "{cut:?}"
    );
    assert!(
        cut.out
            .contains("The last line of the recording is cut off"),
        "{cut:?}"
    );
    assert!(cut.out.contains("No session waited for a lock."), "{cut:?}");
    let bad = ran(&mut folder.command(&["report", "bad.jsonl"]));
    assert_eq!(bad.code, 2, "{bad:?}");
    assert!(bad.err.starts_with("pglock: bad.jsonl:3: "), "{bad:?}");
    for file in ["empty.jsonl", "missing.jsonl"] {
        assert_eq!(
            ran(&mut folder.command(&["report", file])).code,
            2,
            "{file}"
        );
    }
    let unwritable = ["report", "cut.jsonl", "--output", "no/such/folder.html"];
    assert_eq!(ran(&mut folder.command(&unwritable)).code, 5);
}

/// Opens the page as wide as a phone, in a frame, and measures it.
fn view_in_a_browser(folder: &Folder, page: &str) {
    let Some(browser) = browser() else {
        return skipped("the look of a report", "chromium");
    };
    let framed = page.replace('&', "&amp;").replace('"', "&quot;");
    let measure = "const page = document.querySelector('iframe').contentDocument;
        document.title = [page.documentElement.scrollWidth, page.querySelectorAll('svg rect').length,
            page.scripts.length, page.images.length, page.title.startsWith('Blocked sessions, ')].join();";
    let html = format!(
        "<!DOCTYPE html><iframe width=\"360\" height=\"640\" style=\"border:0\" srcdoc=\"{framed}\">\
         </iframe><script>onload = () => {{ {measure} }}</script>"
    );
    let file = folder.0.join("framed.html");
    fs::write(&file, html).unwrap();
    let seen = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
        .arg(format!(
            "--user-data-dir={}",
            folder.0.join("browser").display()
        ))
        .arg(format!("file://{}", file.display()))
        .env("HOME", &folder.0)
        .output()
        .unwrap();
    let seen = String::from_utf8_lossy(&seen.stdout);
    let (_, title) = seen.split_once("<title>").expect("the measures");
    let title = title.split_once('<').unwrap().0;
    let measures: Vec<&str> = title.split(',').collect();
    let [width, drawn, scripts, images, has_title] = measures[..] else {
        panic!("{title}")
    };
    assert!(
        width.parse::<u32>().unwrap() <= 360,
        "{width} is wider than a phone"
    );
    assert!(drawn.parse::<u32>().unwrap() >= 5, "{drawn}");
    assert_eq!((scripts, images, has_title), ("0", "0", "true"));
}

fn browser() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let path = std::env::var_os("PATH")?;
    let files = std::env::split_paths(&path).flat_map(|folder| names.map(|it| folder.join(it)));
    files.into_iter().find(|file| file.is_file())
}
