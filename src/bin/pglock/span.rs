//! Durations, as people write them.

use std::time::Duration;

use chrono::TimeDelta;

/// The units, and how many milliseconds each has.
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

/// Reads `500ms`, `5s`, `1.5h`, `1h 30min`.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("`{text}` is no duration; one is written as 500ms, 5s, 10min, 1.5h or 2d");
    let mut rest = text.trim();
    let mut millis = 0.0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, tail) = rest.split_at(digits.ok_or_else(wrong)?);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let tail = tail.trim_start();
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic());
        let (unit, tail) = tail.split_at(letters.unwrap_or(tail.len()));
        let unit = UNITS.iter().find(|(name, _)| *name == unit);
        millis += number * unit.ok_or_else(wrong)?.1 as f64;
        rest = tail.trim_start();
    }
    Duration::try_from_secs_f64(millis / 1000.0)
        .ok()
        .filter(|span| TimeDelta::from_std(*span).is_ok())
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_read_with_its_units() {
        let read = |text| parse_span(text).map(|span| span.as_millis());
        assert_eq!(read("500ms"), Ok(500));
        assert_eq!(read("1.5h"), Ok(5_400_000));
        assert_eq!(read("1h 30min"), Ok(5_400_000));
        assert_eq!(read(" 2 d "), Ok(172_800_000));
        assert_eq!(read("0s"), Ok(0));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
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
            assert!(parse_span(text).is_err(), "{text}");
        }
    }
}
