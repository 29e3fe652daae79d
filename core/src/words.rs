//! Numbers, spans and instants as people read them, on the web page and in a terminal.

use jiff::Timestamp;

use crate::lateness::BEYOND_MS;

/// Of what is not known.
pub const UNKNOWN: &str = "–";

pub fn rate(per_s: f64) -> String {
    if per_s > 0.0 && per_s < 10.0 { format!("{per_s:.1}") } else { count(per_s.round() as i64) }
}

pub fn decimal(ms: f64) -> String {
    if ms < 10.0 { format!("{ms:.1}") } else { count(ms.round() as i64) }
}

/// How late.
pub fn late(ms: f64) -> String {
    if ms >= BEYOND_MS { "over 1 h".to_owned() } else { format!("{} ms", decimal(ms)) }
}

/// Thousands are set apart, by a space that does not break.
pub fn count(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = if number < 0 { "−".to_owned() } else { String::new() };
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

pub fn plural(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// A span in its two largest units at most.
pub fn span(ms: i64) -> String {
    let s = ms / 1_000;
    let two = |large: i64, large_unit, small: i64, small_unit| match small {
        0 => format!("{large} {large_unit}"),
        _ => format!("{large} {large_unit} {small} {small_unit}"),
    };
    match s {
        ..1 => format!("{ms} ms"),
        1..120 => format!("{s} s"),
        120..7_200 => two(s / 60, "min", s % 60, "s"),
        7_200..172_800 => two(s / 3_600, "h", s / 60 % 60, "min"),
        _ => two(s / 86_400, "d", s / 3_600 % 24, "h"),
    }
}

/// `15:04:05`, UTC.
pub fn clock(ms: i64) -> String {
    utc(ms, "%H:%M:%S")
}

/// `Nov 29 15:04`, UTC.
pub fn date(ms: i64) -> String {
    utc(ms, "%b %-d %H:%M")
}

/// `Nov 29 15:04:05`, UTC.
pub fn instant(ms: i64) -> String {
    utc(ms, "%b %-d %H:%M:%S")
}

fn utc(ms: i64, pattern: &str) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| String::new(), |at| at.strftime(pattern).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_spans_read_well() {
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!((&*count(12), &*count(123), &*count(0)), ("12", "123", "0"));
        let spans = [0, 999, 10_000, 320_000, 15_680_000, 501_760_000].map(span);
        assert_eq!(spans, ["0 ms", "999 ms", "10 s", "5 min 20 s", "4 h 21 min", "5 d 19 h"]);
    }
}
