//! The lines of a recording.

use std::path::Path;

use crate::failure::Failure;
use crate::watch::Record;

/// A recording that was read.
#[derive(Debug)]
pub struct Recording {
    pub records: Vec<Record>,
    /// True if the last line has no end, as after a crash, or while `pglock watch` writes it.
    pub is_cut: bool,
}

pub fn parse(bytes: &[u8], path: &Path) -> Result<Recording, Failure> {
    let mut recording = Recording {
        records: Vec::new(),
        is_cut: false,
    };
    let lines = bytes.split_inclusive(|byte| *byte == b'\n').zip(1..);
    for (line, number) in lines.filter(|(line, _)| !line.trim_ascii().is_empty()) {
        match serde_json::from_slice(line) {
            Ok(record) => recording.records.push(record),
            Err(_) if !line.ends_with(b"\n") => recording.is_cut = true,
            Err(error) => {
                // The position within the line, without the line that serde counts.
                let (path, error) = (path.display(), without_position(&error.to_string()));
                let text = format!("{path}:{number}: not a line of `pglock watch --json`: {error}");
                return Err(Failure::Usage(text));
            }
        }
    }
    if recording.records.is_empty() {
        let text = format!("`{}` has no line of `pglock watch --json`", path.display());
        return Err(Failure::Usage(text));
    }
    Ok(recording)
}

fn without_position(error: &str) -> String {
    let (text, _) = error.rsplit_once(" at line ").unwrap_or((error, ""));
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = r#"{"event":"watching","time":"2026-11-25T14:00:00Z","version":"0.1.0"}"#;

    fn parsed(text: &str) -> Result<(usize, bool), String> {
        let recording = parse(text.as_bytes(), Path::new("night.jsonl"));
        recording
            .map(|it| (it.records.len(), it.is_cut))
            .map_err(|failure| failure.to_string())
    }

    #[test]
    fn a_last_line_that_is_cut_off_is_left_out() {
        for end in 1..FIRST.len() {
            let cut = format!("{FIRST}\n{}", &FIRST[..end]);
            assert_eq!(parsed(&cut), Ok((1, true)), "{cut}");
        }
        assert_eq!(parsed(&format!("{FIRST}\n{FIRST}")), Ok((2, false)));
        assert_eq!(parsed(&format!("{FIRST}\n\n")), Ok((1, false)));
    }

    #[test]
    fn another_bad_line_is_an_error_with_its_number() {
        let error = parsed(&format!("{FIRST}\n{{\n{FIRST}\n")).unwrap_err();
        assert!(error.starts_with("night.jsonl:2: not a line of"), "{error}");
        assert!(!error.contains("at line"), "{error}");
        let error = parsed("\n{\"event\":\"x\"}\n").unwrap_err();
        assert!(error.starts_with("night.jsonl:2: "), "{error}");
        assert!(parsed("").unwrap_err().contains("has no line"));
    }
}
