//! JSON that is safe to show in a terminal.

use serde::Serialize;

use super::screen::show;
use super::terminal_text::is_invisible;
use crate::failure::Failure;

/// Writes a value to stdout as indented JSON.
pub fn show_json(value: &impl Serialize) -> Result<(), Failure> {
    show(&(to_json(value)? + "\n"))
}

/// Writes a value to stdout as JSON on one line.
pub fn show_json_line(value: &impl Serialize) -> Result<(), Failure> {
    match serde_json::to_string(value) {
        Ok(json) => show(&(escape(&json) + "\n")),
        Err(error) => Err(Failure::Failed(error.to_string())),
    }
}

fn to_json(value: &impl Serialize) -> Result<String, Failure> {
    match serde_json::to_string_pretty(value) {
        Ok(json) => Ok(escape(&json)),
        Err(error) => Err(Failure::Failed(error.to_string())),
    }
}

/// Escapes the characters that JSON allows in a string but a terminal may act on.
///
/// They occur only in strings: outside of strings, JSON is ASCII.
fn escape(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        if is_unsafe(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                escaped += &format!("\\u{unit:04x}");
            }
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Line breaks are those between the lines: serde escapes them in strings.
fn is_unsafe(c: char) -> bool {
    (c.is_control() && c != '\n') || is_invisible(c) || matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::to_json;

    #[test]
    fn a_hostile_text_is_escaped_without_loss() {
        let hostile = "\u{1b}[2J\u{9b}31m\u{202e}\u{7f}\n\"ä\u{e0041}";
        let text = to_json(&hostile).unwrap();
        assert!(
            text.chars().all(|c| c == 'ä' || c.is_ascii_graphic()),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), hostile);
    }
}
