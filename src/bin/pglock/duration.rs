//! Durations in options and filters: `500ms`, `5s`, `1h 30min`.

use std::time::Duration;

use chrono::TimeDelta;

/// The shortest interval: each poll copies the server's lock table, which delays other sessions.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// The units, in milliseconds.
const UNITS: [(&str, u64); 11] = [
    ("ms", 1),
    ("s", 1_000),
    ("sec", 1_000),
    ("m", 60_000),
    ("min", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("day", 86_400_000),
    ("days", 86_400_000),
    ("w", 604_800_000),
    ("weeks", 604_800_000),
];

/// Parses numbers with units, and adds them up.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration = seconds(text.trim()).and_then(|it| Duration::try_from_secs_f64(it).ok());
    let duration = duration.filter(|it| TimeDelta::from_std(*it).is_ok());
    duration.ok_or_else(|| {
        format!("`{text}` is not a duration; write it as 500ms, 5s, 10min, 1.5h or 2d")
    })
}

/// Parses the interval at which a command polls the server.
pub fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if interval < MIN_INTERVAL {
        return Err("polls more frequent than every 100ms delay other sessions".to_owned());
    }
    Ok(interval)
}

fn seconds(text: &str) -> Option<f64> {
    let mut rest = (!text.is_empty()).then_some(text)?;
    let mut millis = 0.0;
    while !rest.is_empty() {
        let (number, tail) = split_at_first(rest, |c| !c.is_ascii_digit() && c != '.');
        let (unit, tail) = split_at_first(tail.trim_start(), |c| !c.is_ascii_alphabetic());
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        millis += number.parse::<f64>().ok()? * *factor as f64;
        rest = tail.trim_start();
    }
    Some(millis / 1000.0)
}

fn split_at_first(text: &str, is_end: fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(is_end).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_parsed_with_its_units() {
        let parse = |text| parse_duration(text).map(|span| span.as_millis());
        assert_eq!(parse("500ms"), Ok(500));
        assert_eq!(parse("1.5h"), Ok(5_400_000));
        assert_eq!(parse("1h 30min"), Ok(5_400_000));
        assert_eq!(parse(" 2 d "), Ok(172_800_000));
        assert_eq!(parse("0s"), Ok(0));
    }

    #[test]
    fn a_text_without_number_or_unit_is_refused() {
        for text in [
            "",
            "5",
            "s",
            "5x",
            "1.2.3s",
            "-1s",
            "1e9s",
            "99999999999999999999w",
            ".",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
