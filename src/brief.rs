//! Durations for people.

use chrono::TimeDelta;

/// A duration in its two largest units.
pub(crate) fn brief(duration: TimeDelta) -> String {
    let millis = duration.num_milliseconds().max(0);
    let seconds = millis / 1000;
    match seconds {
        0 => format!("{millis} ms"),
        1..60 => format!("{seconds}.{} s", millis % 1000 / 100),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86400, seconds % 86400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    #[test]
    fn a_duration_is_told_in_its_largest_units() {
        let brief = |millis| super::brief(TimeDelta::milliseconds(millis));
        assert_eq!(brief(-3), "0 ms");
        assert_eq!(brief(350), "350 ms");
        assert_eq!(brief(4_270), "4.2 s");
        assert_eq!(brief(303_000), "5 min 3 s");
        assert_eq!(brief(7_500_000), "2 h 5 min");
        assert_eq!(brief(273_600_000), "3 d 4 h");
    }
}
