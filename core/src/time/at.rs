//! Due times as people type them: `tomorrow 09:00 Europe/Berlin`.

use jiff::{Timestamp, ToSpan, tz::TimeZone};

use super::{MAX_TEXT, TimeError, parse_due, parse_iso, starts_with_iso_minute, zone};

/// Reads all that [`parse_due`] reads, and `[today|tomorrow] HH:MM[:SS] [zone]`.
///
/// A time without a day is the next one: today's if it is still to come, else
/// tomorrow's. Which day it is now depends on the zone: the one in the phrase,
/// else `default_zone`.
///
/// # Errors
/// As [`parse_due`].
pub fn parse_at(text: &str, now_ms: i64, default_zone: Option<&TimeZone>) -> Result<i64, TimeError> {
    let text = text.trim_ascii();
    let mut words = text.split_ascii_whitespace().peekable();
    let day = match words.peek().map(|word| word.to_ascii_lowercase()).as_deref() {
        Some("today") => Day::Today,
        Some("tomorrow") => Day::Tomorrow,
        Some(word) if is_time_of_day(word) => Day::Next,
        _ => return parse_due(text, default_zone),
    };
    if text.len() > MAX_TEXT {
        return Err(TimeError::NotATime);
    }
    if day != Day::Next {
        words.next();
    }
    let time = words.next().filter(|word| is_time_of_day(word)).ok_or(TimeError::NotATime)?;
    let zone = match words.next() {
        Some(word) => zone::parse(word)?,
        None => default_zone.ok_or(TimeError::NoZone)?.clone(),
    };
    if words.next().is_some() {
        return Err(TimeError::NotATime);
    }
    match day {
        Day::Today => on_day(time, now_ms, 0, &zone),
        Day::Tomorrow => on_day(time, now_ms, 1, &zone),
        Day::Next => match on_day(time, now_ms, 0, &zone)? {
            due if due >= now_ms => Ok(due),
            _ => on_day(time, now_ms, 1, &zone),
        },
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Day {
    Today,
    Tomorrow,
    Next,
}

/// Whether a word has the shape `09:00`, `09:00:30`.
fn is_time_of_day(word: &str) -> bool {
    matches!(word.len(), 5 | 8)
        && word.bytes().enumerate().all(|(i, b)| if i % 3 == 2 { b == b':' } else { b.is_ascii_digit() })
}

/// The instant of a time of day `days` after today.
fn on_day(time: &str, now_ms: i64, days: i32, zone: &TimeZone) -> Result<i64, TimeError> {
    let now = Timestamp::from_millisecond(now_ms).map_err(|_| TimeError::OutOfRange)?;
    let date = zone.to_datetime(now).date().checked_add(days.days()).map_err(|_| TimeError::OutOfRange)?;
    let iso = format!("{date}T{time}");
    if starts_with_iso_minute(&iso) { parse_iso(&iso, "", Some(zone)) } else { Err(TimeError::OutOfRange) }
}
