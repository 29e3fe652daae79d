//! The wall clock, read in this one file.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> i64 {
    now_us() / 1000
}

/// Microseconds since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Milliseconds since the epoch, rounded up: a due time is never moved forward.
pub(crate) fn to_ms_up(at: SystemTime) -> i64 {
    match at.duration_since(UNIX_EPOCH) {
        Ok(after) => span_ms_up(after),
        Err(before) => {
            let whole = before.duration().as_millis();
            i64::try_from(whole).map_or(i64::MIN, |ms| -ms)
        }
    }
}

/// A span in whole milliseconds, rounded up.
pub(crate) fn span_ms_up(span: Duration) -> i64 {
    let ms = span.as_nanos().div_ceil(1_000_000);
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_up_to_whole_milliseconds() {
        assert_eq!(to_ms_up(UNIX_EPOCH + Duration::from_nanos(1)), 1);
        assert_eq!(to_ms_up(UNIX_EPOCH + Duration::from_millis(5)), 5);
        assert_eq!(to_ms_up(UNIX_EPOCH - Duration::from_micros(1500)), -1);
        assert_eq!(span_ms_up(Duration::MAX), i64::MAX);
    }
}
