//! Time zones as words: offsets, unambiguous abbreviations, IANA names.

use jiff::{
    civil::DateTime,
    tz::{AmbiguousOffset, Offset, TimeZone},
};

use super::TimeError;

/// Abbreviations that mean one offset the world over, in minutes east of UTC.
/// They are offsets, not zones: `1 Jul 2023 12:00 CET` is 11:00 UTC.
const ABBREVIATIONS: &[(&str, i32)] = &[
    ("Z", 0),
    ("UTC", 0),
    ("GMT", 0),
    ("WET", 0),
    ("WEST", 60),
    ("CET", 60),
    ("CEST", 120),
    ("EET", 120),
    ("EEST", 180),
    ("MSK", 180),
    ("SAST", 120),
    ("JST", 540),
    ("KST", 540),
    ("AEST", 600),
    ("AEDT", 660),
    ("NZST", 720),
    ("NZDT", 780),
];

/// Abbreviations that several parts of the world use for different offsets.
const AMBIGUOUS: &[(&str, &str)] = &[
    ("IST", "India, Israel or Ireland"),
    ("CST", "North America, China or Cuba"),
    ("CDT", "North America or Cuba"),
    ("BST", "Britain in summer or Bangladesh"),
    ("EST", "North America or Australia"),
    ("EDT", "North America or Australia"),
    ("MST", "North America or Malaysia"),
    ("PST", "North America or the Philippines"),
    ("AST", "Atlantic or Arabia"),
    ("ADT", "Atlantic or Arabia"),
    ("AMT", "Amazon or Armenia"),
    ("GST", "the Gulf or South Georgia"),
    ("SST", "Samoa or Singapore"),
];

/// Reads `CET`, `+02:00`, `+0200`, `+02` or `Europe/Berlin`.
///
/// IANA names without a slash (`EST`, `Cuba`) are not accepted: most are old
/// abbreviations that would bring the ambiguity back.
pub(super) fn parse(word: &str) -> Result<TimeZone, TimeError> {
    if let Some(seconds) = numeric(word) {
        return Offset::from_seconds(seconds).map(TimeZone::fixed).map_err(|_| unknown(word));
    }
    if let Some((zone, meanings)) = AMBIGUOUS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)) {
        return Err(TimeError::AmbiguousZone { zone, meanings });
    }
    if let Some((_, minutes)) = ABBREVIATIONS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)) {
        return Offset::from_seconds(minutes * 60).map(TimeZone::fixed).map_err(|_| unknown(word));
    }
    if !word.contains('/') {
        return Err(unknown(word));
    }
    known(TimeZone::get(word).ok()).ok_or_else(|| unknown(word))
}

/// The error for a zone that is none; a text with an annotation is named by
/// what stands in its brackets.
pub(super) fn unknown(text: &str) -> TimeError {
    let name = text.split_once('[').map_or(text, |(_, rest)| rest.split(']').next().unwrap_or(rest));
    TimeError::UnknownZone(name.into())
}

/// Drops jiff's `Etc/Unknown`, which would quietly be UTC.
pub(super) fn known(zone: Option<TimeZone>) -> Option<TimeZone> {
    zone.filter(|zone| !zone.is_unknown())
}

/// The offset of a wall-clock time. In a gap the offset before it holds, which
/// comes out later; in a fold the offset before it too, which is the first.
pub(super) fn offset_at(zone: &TimeZone, wall: DateTime) -> Offset {
    match zone.to_ambiguous_timestamp(wall).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset,
        AmbiguousOffset::Gap { before, .. } | AmbiguousOffset::Fold { before, .. } => before,
    }
}

/// Seconds of `+HH`, `+HHMM`, `+HH:MM` and the like with `-`.
fn numeric(word: &str) -> Option<i32> {
    let (sign, digits) = match word.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let two = |text: &str| -> Option<i32> {
        let digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten()
    };
    let (hours, minutes) = match digits.len() {
        2 => (digits, "00"),
        4 => digits.split_at_checked(2)?,
        5 => digits.split_once(':')?,
        _ => return None,
    };
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}
