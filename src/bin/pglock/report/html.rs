//! Texts of a page. Whatever a session has chosen is text, and never markup.

use chrono::{DateTime, TimeDelta, Utc};

use crate::output::{clean, clean_lines};
use crate::watch::SessionRecord;

/// Escapes a text, and puts it on one line.
pub fn text(text: &str) -> String {
    escape(&clean(text))
}

/// Escapes a text, and keeps its lines.
pub fn lines(text: &str) -> String {
    escape(&clean_lines(text))
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Returns the name of a session or of a prepared transaction, escaped.
pub fn name(session: &SessionRecord) -> String {
    let activity = session.activity.as_ref();
    let application = activity.and_then(|it| it.application_name.as_deref());
    let process = activity.and_then(|it| it.backend_type.as_deref());
    let process = process.filter(|it| *it != "client backend");
    let client = application.filter(|it| !it.is_empty()).or(process);
    match (session.pid, &session.gid) {
        (Some(pid), _) => text(&format!("{pid} {}", client.unwrap_or_default())),
        (None, Some(gid)) => text(&format!("prepared transaction {gid}")),
        (None, None) => "prepared transaction".to_owned(),
    }
}

/// Returns a noun with its number.
pub fn count(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}

pub fn day_and_time(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S").to_string()
}

pub fn time_of_day(time: DateTime<Utc>) -> String {
    time.format("%H:%M:%S").to_string()
}

/// Returns a time as exactly as the marks of an axis need it.
pub fn time_on_axis(time: DateTime<Utc>, between_marks: TimeDelta) -> String {
    match between_marks.num_seconds() {
        ..3 => {
            let tenths = time.timestamp_subsec_millis() / 100;
            format!("{}.{tenths}", time_of_day(time))
        }
        3..21_600 => time_of_day(time),
        _ => time.format("%m-%d %H:%M").to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_is_markup() {
        let hostile = "</style><script>alert('x')</script>&amp;\u{202e}\u{1b}[0m";
        let expected = "&lt;/style&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;amp; [0m";
        assert_eq!(text(hostile), expected);
        assert_eq!(lines("a\n\"<b>\""), "a\n&quot;&lt;b&gt;&quot;");
    }
    #[test]
    fn an_axis_shows_as_much_of_a_time_as_it_needs() {
        let time = DateTime::from_timestamp_millis(1_769_860_800_250).unwrap();
        let marks = |seconds| time_on_axis(time, TimeDelta::seconds(seconds));
        assert_eq!(marks(1), "12:00:00.2");
        assert_eq!(marks(60), "12:00:00");
        assert_eq!(marks(86_400), "01-31 12:00");
    }
}
