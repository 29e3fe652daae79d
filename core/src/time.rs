//! Due times and delays as users write them.
//!
//! | written | read by |
//! | --- | --- |
//! | `2023-09-01T18:40:00.5+02:00`, `2023-09-01T18:40Z`, `2023-09-01T18:40[Europe/Berlin]` | [`parse_due`] |
//! | `1693586400000` (epoch milliseconds) | [`parse_due`] |
//! | `2023-09-01 18:40:00`, in the default zone | [`parse_due`] |
//! | `1 Sep 2023 18:40 CET`, `2023-09-01 18:40:00 Europe/Berlin` | [`parse_due`] |
//! | `90s`, `1h30m`, `PT15M`, `500ms`, `2d` | [`parse_delay`] |
//! | `tomorrow 09:00 Europe/Berlin`, `today 18:00`, `09:00 CET`, and all of `parse_due` | [`parse_at`] |
//!
//! Every result is in whole milliseconds, rounded up: early is worse than late.
//! Where a text can be a delay it is one: `5m` is five minutes, never military
//! time, and a due time so written is refused. A wall-clock time that a change
//! to summer time skips is read as if the change had not happened yet (it comes
//! out later by the gap), one that occurs twice as the first of the two.

mod at;
mod delay;
mod zone;

use jiff::{
    Timestamp,
    civil::{Date, DateTime},
    fmt::temporal::{Pieces, PiecesOffset},
    tz::{Offset, TimeZone},
};

pub use self::{at::parse_at, delay::parse_delay};

/// The earliest due time accepted, in epoch ms: the start of the year 2000.
///
/// Nothing real is older, but mistakes are: a zero timestamp (1970), an empty
/// Windows file time (1601), seconds taken for milliseconds (January 1970).
/// With [`LATEST_MS`] it also makes the plausible numbers of seconds,
/// milliseconds, microseconds and nanoseconds four disjoint ranges.
pub const EARLIEST_MS: i64 = 946_684_800_000;

/// The latest due time accepted, in epoch ms: the end of the year 9999, which is
/// where `google.protobuf.Timestamp` and RFC 3339 end too.
pub const LATEST_MS: i64 = 253_402_300_799_999;

/// Longer texts are no times. Bounds what an error message can repeat.
const MAX_TEXT: usize = 128;

/// Why a text is not a due time or not a delay.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    #[error("is empty")]
    Empty,
    #[error(
        "is not a time: expected RFC 3339 (2023-09-01T18:40:00+02:00), epoch milliseconds, \
         or 1 Sep 2023 18:40 Europe/Berlin"
    )]
    NotATime,
    #[error("names a day that does not exist")]
    NoSuchDay,
    #[error("names a time of day that does not exist")]
    NoSuchTimeOfDay,
    #[error("names a leap second, which has no epoch time: write the next minute's second 00")]
    LeapSecond,
    #[error(
        "has no time zone, and no default zone applies: append Z, an offset (+02:00) or a name (Europe/Berlin)"
    )]
    NoZone,
    #[error("zone {zone} is ambiguous ({meanings}): write an offset (+02:00) or a name (Europe/Berlin)")]
    AmbiguousZone { zone: &'static str, meanings: &'static str },
    #[error("zone {0} is not known: write an offset (+02:00) or a name (Europe/Berlin)")]
    UnknownZone(Box<str>),
    #[error("its offset contradicts its time zone")]
    OffsetContradictsZone,
    #[error("looks like epoch {0}: epoch milliseconds are expected")]
    WrongUnit(EpochUnit),
    #[error("lies outside the years 2000 to 9999")]
    OutOfRange,
    #[error("is a delay, not a time")]
    IsDelay,
    #[error("is not a delay: expected 90s, 1h30m, 500ms, 2d, or PT15M")]
    NotADelay,
    #[error("has no unit: write 90s or 90ms")]
    NoUnit,
    #[error("has a unit without a fixed length (month or year)")]
    CalendarUnit,
    #[error("is negative")]
    Negative,
    #[error("is too long: milliseconds do not fit 64 bits")]
    TooLong,
}

/// A unit of epoch time other than the milliseconds that are expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochUnit {
    Seconds,
    Microseconds,
    Nanoseconds,
}

impl std::fmt::Display for EpochUnit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Seconds => "seconds",
            Self::Microseconds => "microseconds",
            Self::Nanoseconds => "nanoseconds",
        })
    }
}

/// Reads a due time, in epoch ms. `default_zone` is for texts that name none.
///
/// # Errors
/// Anything that is not one clear instant from 2000 to 9999.
pub fn parse_due(text: &str, default_zone: Option<&TimeZone>) -> Result<i64, TimeError> {
    let text = text.trim_ascii();
    if text.is_empty() {
        return Err(TimeError::Empty);
    }
    if text.len() > MAX_TEXT {
        return Err(TimeError::NotATime);
    }
    if parse_delay(text).is_ok() {
        return Err(TimeError::IsDelay);
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return parse_epoch_ms(text);
    }
    if starts_with_iso_minute(text) {
        // The date and the time may be parted by a space, so the zone's space
        // is looked for behind them.
        let (minute, rest) = text.split_at(ISO_MINUTE);
        let (tail, zone) = rest.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((rest, ""));
        return parse_iso(&[minute, tail].concat(), zone.trim_ascii(), default_zone);
    }
    parse_day_month_year(text, default_zone)
}

/// Whether a due time is one that is accepted.
pub(crate) fn in_range(due_ms: i64) -> Result<i64, TimeError> {
    if (EARLIEST_MS..=LATEST_MS).contains(&due_ms) { Ok(due_ms) } else { Err(TimeError::OutOfRange) }
}

/// Digits are milliseconds, or a mistake that their magnitude gives away.
fn parse_epoch_ms(digits: &str) -> Result<i64, TimeError> {
    let number: i128 = digits.parse().map_err(|_| TimeError::OutOfRange)?;
    let (earliest, latest) = (i128::from(EARLIEST_MS), i128::from(LATEST_MS));
    let plausible = |ms: i128| (earliest..=latest).contains(&ms);
    if plausible(number.saturating_mul(1_000)) {
        Err(TimeError::WrongUnit(EpochUnit::Seconds))
    } else if plausible(number / 1_000) {
        Err(TimeError::WrongUnit(EpochUnit::Microseconds))
    } else if plausible(number / 1_000_000) {
        Err(TimeError::WrongUnit(EpochUnit::Nanoseconds))
    } else {
        i64::try_from(number).map_err(|_| TimeError::OutOfRange).and_then(in_range)
    }
}

/// Length of `2023-09-01T18:40`.
const ISO_MINUTE: usize = 16;

fn starts_with_iso_minute(text: &str) -> bool {
    const SHAPE: &[u8; ISO_MINUTE] = b"dddd-dd-ddTdd:dd";
    text.len() >= ISO_MINUTE
        && SHAPE.iter().zip(text.bytes()).all(|(shape, byte)| match shape {
            b'd' => byte.is_ascii_digit(),
            b'T' => matches!(byte, b'T' | b't' | b' '),
            other => byte == *other,
        })
}

/// Reads `1 Sep 2023 18:40[:00[.5]] [CET]` by writing it as ISO 8601.
fn parse_day_month_year(text: &str, default_zone: Option<&TimeZone>) -> Result<i64, TimeError> {
    const MONTHS: [&str; 12] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    let mut words = text.split_ascii_whitespace();
    let mut next = || words.next().ok_or(TimeError::NotATime);
    let (day, month, year, time) = (next()?, next()?.to_ascii_lowercase(), next()?, next()?);
    let zone = words.next().unwrap_or("");
    let month = 1 + MONTHS
        .iter()
        .position(|name| *name == month || month.len() == 3 && name.starts_with(&month))
        .ok_or(TimeError::NotATime)?;
    let iso = format!("{year}-{month:02}-{day:0>2}T{time}");
    if words.next().is_some() || !starts_with_iso_minute(&iso) {
        return Err(TimeError::NotATime);
    }
    parse_iso(&iso, zone, default_zone)
}

/// Reads an ISO 8601 text that [`starts_with_iso_minute`]; `zone` is the word
/// that stood behind it, or empty.
fn parse_iso(text: &str, zone: &str, default_zone: Option<&TimeZone>) -> Result<i64, TimeError> {
    if text.get(ISO_MINUTE..).is_some_and(|rest| rest.starts_with(":60")) {
        // jiff would read second 59: up to a second early.
        return Err(TimeError::LeapSecond);
    }
    let pieces = Pieces::parse(text).map_err(|_| why_unreadable(text))?;
    let wall = pieces.date().to_datetime(pieces.time().ok_or(TimeError::NotATime)?);
    let annotated = match pieces.time_zone_annotation() {
        None => None,
        Some(annotation) => {
            Some(zone::known(annotation.to_time_zone().ok()).ok_or_else(|| zone::unknown(text))?)
        }
    };
    if !zone.is_empty() && (annotated.is_some() || pieces.offset().is_some()) {
        return Err(TimeError::NotATime);
    }
    let offset = match (pieces.offset(), annotated) {
        (Some(offset), annotated) => {
            let numeric = offset.to_numeric_offset();
            // jiff reads up to 25:59:59, RFC 3339 and we no more than 23:59.
            if numeric.seconds().abs() >= 86_400 {
                return Err(TimeError::NotATime);
            }
            // `Z` says nothing about local time (RFC 9557), so it contradicts no zone.
            let local = !matches!(offset, PiecesOffset::Zulu);
            if let (true, Some(zone)) = (local, annotated) {
                check_offset(wall, numeric, &zone)?;
            }
            numeric
        }
        (None, Some(annotated)) => zone::offset_at(&annotated, wall),
        (None, None) if !zone.is_empty() => zone::offset_at(&zone::parse(zone)?, wall),
        (None, None) => zone::offset_at(default_zone.ok_or(TimeError::NoZone)?, wall),
    };
    in_range(epoch_ms(wall, offset))
}

/// Epoch ms of a wall-clock time, rounded up. Unlike jiff's `Timestamp` this
/// reaches to the end of the year 9999 whatever the offset.
fn epoch_ms(wall: DateTime, offset: Offset) -> i64 {
    let nanos = wall.duration_since(DateTime::constant(1970, 1, 1, 0, 0, 0, 0)).as_nanos()
        - i128::from(offset.seconds()) * 1_000_000_000;
    // Nine thousand years of milliseconds fit by far.
    -(-nanos).div_euclid(1_000_000) as i64
}

fn check_offset(wall: DateTime, offset: Offset, zone: &TimeZone) -> Result<(), TimeError> {
    let instant = Timestamp::from_millisecond(epoch_ms(wall, offset)).map_err(|_| TimeError::OutOfRange)?;
    if zone.to_offset(instant) == offset { Ok(()) } else { Err(TimeError::OffsetContradictsZone) }
}

/// Says which part of a text of the right shape is wrong.
fn why_unreadable(text: &str) -> TimeError {
    let number = |from: usize| text.get(from..from + 2).and_then(|two| two.parse::<i8>().ok());
    let year = text.get(..4).and_then(|four| four.parse::<i16>().ok());
    match (year, number(5), number(8), number(11), number(14)) {
        (Some(year), Some(month), Some(day), ..) if Date::new(year, month, day).is_err() => {
            TimeError::NoSuchDay
        }
        (.., Some(hour), Some(minute)) if hour > 23 || minute > 59 => TimeError::NoSuchTimeOfDay,
        _ if text.get(ISO_MINUTE..ISO_MINUTE + 1) == Some(":") && number(17).is_some_and(|s| s > 59) => {
            TimeError::NoSuchTimeOfDay
        }
        _ => TimeError::NotATime,
    }
}

#[cfg(test)]
mod tests;
