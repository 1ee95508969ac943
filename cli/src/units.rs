//! Numbers as people read them: `4.9 MB`, `12,345 rows/s`, `1.2 ms`. Only for text; JSON carries
//! plain numbers with the unit in the key.

use std::time::Duration;

/// Decimal multiples, as disks are sold.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if n < 1000 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1e3;
    let mut units = UNITS.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    for next in units {
        if value < 999.95 {
            break;
        }
        value /= 1e3;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// With a comma every three digits.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 file`, `2 files`: the count and the thing, which takes an s.
pub(crate) fn things(n: u64, thing: &str) -> String {
    format!("{} {thing}{}", count(n), if n == 1 { "" } else { "s" })
}

/// `n` things in `time`, per second; 0 if no time passed.
pub(crate) fn per_second(n: u64, time: Duration) -> f64 {
    let seconds = time.as_secs_f64();
    if seconds > 0.0 { n as f64 / seconds } else { 0.0 }
}

/// A rate of rows.
pub(crate) fn rows_per_s(rate: f64) -> String {
    format!("{} rows/s", count(rate.round() as u64))
}

/// Microseconds, in the unit that leaves one to three digits.
pub(crate) fn micros(us: f64) -> String {
    if us < 1e3 {
        format!("{us:.0} us")
    } else if us < 1e6 {
        format!("{:.1} ms", us / 1e3)
    } else {
        format!("{:.2} s", us / 1e6)
    }
}

/// A duration, like [`micros`].
pub(crate) fn time(time: Duration) -> String {
    micros(time.as_secs_f64() * 1e6)
}

/// How long ago, or how long to wait, in the largest unit that loses less than a tenth: `6 h`, `30 d`.
pub(crate) fn period(ms: u64) -> String {
    const UNITS: [(&str, u64); 4] =
        [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000)];
    let fits =
        |(_, unit): &&(&str, u64)| ms >= *unit && (ms.is_multiple_of(*unit) || ms >= 10 * unit);
    match UNITS.iter().find(fits) {
        Some((name, unit)) => format!("{} {name}", count(ms / unit)),
        None => format!("{} ms", count(ms)),
    }
}

/// The first `max` characters, with an ellipsis if there were more, on one line.
pub(crate) fn clip(text: &str, max: usize) -> String {
    let mut line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((cut, _)) = line.char_indices().nth(max) {
        line.truncate(cut);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well_at_every_size() {
        assert_eq!(
            [0, 999, 1000, 999_949, 999_951].map(bytes),
            ["0 B", "999 B", "1.0 kB", "999.9 kB", "1.0 MB"]
        );
        assert_eq!(bytes(u64::MAX), "18446744.1 TB");
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([12.0, 1500.0, 2.5e6].map(micros), ["12 us", "1.5 ms", "2.50 s"]);
        assert_eq!(per_second(5, Duration::ZERO), 0.0);
    }

    #[test]
    fn periods_are_whole_numbers_of_the_unit_that_people_would_choose() {
        let read = [0, 999, 5_000, 90_000, 21_600_000, 604_800_000, 950_400_000].map(period);
        assert_eq!(read, ["0 ms", "999 ms", "5 s", "90 s", "6 h", "7 d", "11 d"]);
        assert_eq!(period(3_600_000 + 61_000), "61 min", "not an hour: a tenth would be lost");
    }

    #[test]
    fn clipping_counts_characters_not_bytes() {
        assert_eq!(clip("déjà  vu", 20), "déjà vu");
        assert_eq!(clip("déjà vu", 4), "déjà…");
    }
}
