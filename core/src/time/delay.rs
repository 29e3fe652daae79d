//! Delays: `90s`, `1h30m`, `PT15M`.

use super::{MAX_TEXT, TimeError};

const SECOND_NS: i128 = 1_000_000_000;
const MINUTE_NS: i128 = 60 * SECOND_NS;
const HOUR_NS: i128 = 60 * MINUTE_NS;
/// Always 24 hours: a delay knows no calendar.
const DAY_NS: i128 = 24 * HOUR_NS;
const WEEK_NS: i128 = 7 * DAY_NS;
/// A part's decimals are kept in units of a thousand-millionth of a nanosecond,
/// so nothing is lost before the one rounding at the end.
const FINE: i128 = 1_000_000_000;

/// Reads a delay, in ms, rounded up.
///
/// Units are `w d h m s ms us ns`, largest first, each at most once, with
/// decimals (`1.5h`) and spaces between parts if one likes; or ISO 8601
/// (`P1DT12H`) without years and months.
///
/// # Errors
/// Numbers without a unit, negative delays, and what is longer than `i64` ms.
pub fn parse_delay(text: &str) -> Result<i64, TimeError> {
    let text = text.trim_ascii();
    if text.is_empty() {
        return Err(TimeError::Empty);
    }
    if text.len() > MAX_TEXT {
        return Err(TimeError::NotADelay);
    }
    if let Some(rest) = text.strip_prefix('-') {
        return Err(match parse_delay(rest) {
            Ok(_) | Err(TimeError::TooLong) => TimeError::Negative,
            Err(TimeError::Negative) => TimeError::NotADelay,
            Err(other) => other,
        });
    }
    let total = match text.strip_prefix(['P', 'p']) {
        Some(rest) => sum_iso(rest)?,
        None => sum_units(text)?,
    };
    let ms = -(-total).div_euclid(1_000_000 * FINE);
    i64::try_from(ms).map_err(|_| TimeError::TooLong)
}

/// Sums `1h30m`.
fn sum_units(text: &str) -> Result<i128, TimeError> {
    let mut total = 0_i128;
    let mut rest = text;
    let mut smallest = i128::MAX;
    while !rest.is_empty() {
        let (amount, tail) = split_amount(rest)?;
        let letters = tail.find(|c: char| !c.is_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let unit_ns = match unit {
            "" if tail.is_empty() => return Err(TimeError::NoUnit),
            "w" => WEEK_NS,
            "d" => DAY_NS,
            "h" => HOUR_NS,
            "m" => MINUTE_NS,
            "s" => SECOND_NS,
            "ms" => 1_000_000,
            "us" | "µs" | "μs" => 1_000,
            "ns" => 1,
            _ => return Err(TimeError::NotADelay),
        };
        if unit_ns >= smallest {
            return Err(TimeError::NotADelay);
        }
        smallest = unit_ns;
        total = add(total, amount, unit_ns)?;
        rest = tail.trim_ascii_start();
    }
    Ok(total)
}

/// Sums what follows the `P` of `P1DT12H`.
fn sum_iso(text: &str) -> Result<i128, TimeError> {
    let mut total = 0_i128;
    let mut rest = text;
    let mut in_time = false;
    let mut smallest = i128::MAX;
    loop {
        if let (false, Some(tail)) = (in_time, rest.strip_prefix(['T', 't'])) {
            in_time = true;
            rest = tail;
        }
        let (amount, tail) = split_amount(rest)?;
        let mut letters = tail.chars();
        let unit_ns = match (in_time, letters.next().map(|c| c.to_ascii_uppercase())) {
            (_, None) => return Err(TimeError::NoUnit),
            (false, Some('W')) => WEEK_NS,
            (false, Some('D')) => DAY_NS,
            (false, Some('Y' | 'M')) => return Err(TimeError::CalendarUnit),
            (true, Some('H')) => HOUR_NS,
            (true, Some('M')) => MINUTE_NS,
            (true, Some('S')) => SECOND_NS,
            _ => return Err(TimeError::NotADelay),
        };
        if unit_ns >= smallest {
            return Err(TimeError::NotADelay);
        }
        smallest = unit_ns;
        total = add(total, amount, unit_ns)?;
        rest = letters.as_str();
        if rest.is_empty() {
            return Ok(total);
        }
    }
}

fn add(total: i128, amount: Amount, unit_ns: i128) -> Result<i128, TimeError> {
    let whole = amount.whole.checked_mul(unit_ns).and_then(|n| n.checked_mul(FINE));
    whole
        .and_then(|n| n.checked_add(amount.billionths * unit_ns))
        .and_then(|n| n.checked_add(total))
        .ok_or(TimeError::TooLong)
}

struct Amount {
    whole: i128,
    billionths: i128,
}

/// Splits `1.5` off the front: digits, and up to nine decimals.
fn split_amount(text: &str) -> Result<(Amount, &str), TimeError> {
    let (whole, rest) = split_digits(text);
    if whole.is_empty() {
        return Err(TimeError::NotADelay);
    }
    let whole = whole.parse().map_err(|_| TimeError::TooLong)?;
    let Some(rest) = rest.strip_prefix('.') else {
        return Ok((Amount { whole, billionths: 0 }, rest));
    };
    let (decimals, rest) = split_digits(rest);
    if decimals.is_empty() || decimals.len() > 9 {
        return Err(TimeError::NotADelay);
    }
    let billionths = format!("{decimals:0<9}").parse().map_err(|_| TimeError::NotADelay)?;
    Ok((Amount { whole, billionths }, rest))
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}
