use jiff::{Timestamp, tz::TimeZone};
use proptest::prelude::*;

use super::*;

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

/// Epoch ms, as an independent reader (jiff's) has it.
fn at(rfc3339: &str) -> i64 {
    rfc3339.parse::<Timestamp>().unwrap().as_millisecond()
}

#[test]
fn due_times_in_every_form() {
    let cases = [
        ("2023-09-01T18:40:00Z", "2023-09-01T18:40:00Z"),
        ("2023-09-01t18:40:00z", "2023-09-01T18:40:00Z"),
        ("  2023-09-01T18:40:00+02:00 ", "2023-09-01T16:40:00Z"),
        ("2023-09-01T18:40+0200", "2023-09-01T16:40:00Z"),
        ("2023-09-01T18:40:00.25-00:00", "2023-09-01T18:40:00.25Z"),
        ("2023-09-01T18:40:00[Europe/Berlin]", "2023-09-01T16:40:00Z"),
        ("2023-09-01T18:40:00+02:00[Europe/Berlin]", "2023-09-01T16:40:00Z"),
        ("2023-09-01T18:40:00Z[Europe/Berlin]", "2023-09-01T18:40:00Z"),
        ("2023-09-01 18:40:00 Europe/Berlin", "2023-09-01T16:40:00Z"),
        ("2023-09-01 18:40:00 CET", "2023-09-01T17:40:00Z"),
        ("2023-09-01 18:40:00 +02:00", "2023-09-01T16:40:00Z"),
        ("1 Sep 2023 18:40 CET", "2023-09-01T17:40:00Z"),
        ("1 Sep 2023 18:40 CEST", "2023-09-01T16:40:00Z"),
        ("01 september 2023 18:40:07 utc", "2023-09-01T18:40:07Z"),
        ("1 Sep 2023 18:40 Europe/Berlin", "2023-09-01T16:40:00Z"),
        ("1 Sep 2023 18:40 -0330", "2023-09-01T22:10:00Z"),
        ("1 Sep 2023 18:40 Asia/Kolkata", "2023-09-01T13:10:00Z"),
        ("1693593600000", "2023-09-01T18:40:00Z"),
        ("2000-01-01T00:00:00Z", "2000-01-01T00:00:00Z"),
    ];
    for (text, expected) in cases {
        assert_eq!(parse_due(text, None), Ok(at(expected)), "{text}");
    }
    assert_eq!(parse_due("9999-12-31T23:59:59.999Z", None), Ok(LATEST_MS));
    assert_eq!(parse_due("946684800000", None), Ok(EARLIEST_MS));
}

#[test]
fn the_default_zone_is_for_texts_without_one() {
    let berlin = zone("Europe/Berlin");
    for text in ["2023-09-01 18:40:00", "1 Sep 2023 18:40", "2023-09-01T18:40"] {
        assert_eq!(parse_due(text, Some(&berlin)), Ok(at("2023-09-01T16:40:00Z")), "{text}");
        assert_eq!(parse_due(text, None), Err(TimeError::NoZone), "{text}");
    }
    assert_eq!(parse_due("2023-09-01 18:40:00Z", Some(&berlin)), Ok(at("2023-09-01T18:40:00Z")));
}

#[test]
fn a_gap_comes_out_later_and_a_fold_first() {
    let gap = parse_due("2023-03-26T02:30[Europe/Berlin]", None);
    assert_eq!(gap, Ok(at("2023-03-26T01:30:00Z")));
    let fold = parse_due("2023-10-29T02:30[Europe/Berlin]", None);
    assert_eq!(fold, Ok(at("2023-10-29T00:30:00Z")));
}

#[test]
fn fractions_round_up() {
    assert_eq!(parse_due("2023-09-01T18:40:00.000000001Z", None), Ok(at("2023-09-01T18:40:00.001Z")));
    assert_eq!(parse_due("2023-09-01T18:40:00.999000000Z", None), Ok(at("2023-09-01T18:40:00.999Z")));
    assert_eq!(parse_due("2023-09-01T18:40:00.999000001Z", None), Ok(at("2023-09-01T18:40:01Z")));
    assert_eq!(parse_delay("1ns"), Ok(1));
    assert_eq!(parse_delay("1.0000001s"), Ok(1_001));
    assert_eq!(parse_delay("0.5ms 1ns"), Ok(1));
}

#[test]
fn what_is_not_a_due_time_says_why() {
    let ambiguous = |zone, meanings| TimeError::AmbiguousZone { zone, meanings };
    let unknown = |name: &str| TimeError::UnknownZone(name.into());
    let cases = [
        ("", TimeError::Empty),
        ("  ", TimeError::Empty),
        ("soon", TimeError::NotATime),
        ("NaN", TimeError::NotATime),
        ("-5", TimeError::NotATime),
        ("+1693593600000", TimeError::NotATime),
        ("1693593600000.5", TimeError::NotATime),
        ("2023-09-01", TimeError::NotATime),
        ("2023-09-01T18:40:00.0000000000001Z", TimeError::NotATime),
        ("2023-09-01T18:40:00Z CET", TimeError::NotATime),
        ("2023-09-01T18:40:00+24:00", TimeError::NotATime),
        ("2023-09-01T18:40:00-24:00[Europe/Berlin]", TimeError::NotATime),
        ("1 Sep 2023 18:40 CET now", TimeError::NotATime),
        ("1 Spt 2023 18:40 CET", TimeError::NotATime),
        ("Fri, 01 Sep 2023 18:40:00 CET", TimeError::NotATime),
        ("２０２３-09-01T18:40:00Z", TimeError::NotATime),
        ("2023-02-30T12:00:00Z", TimeError::NoSuchDay),
        ("2023-02-30 12:00:00", TimeError::NoSuchDay),
        ("30 Feb 2023 12:00 CET", TimeError::NoSuchDay),
        ("2023-13-01T12:00:00Z", TimeError::NoSuchDay),
        ("2023-09-01T24:00:00Z", TimeError::NoSuchTimeOfDay),
        ("2023-09-01T18:40:61Z", TimeError::NoSuchTimeOfDay),
        ("2016-12-31T23:59:60Z", TimeError::LeapSecond),
        ("5m", TimeError::IsDelay),
        ("1h30m", TimeError::IsDelay),
        ("PT15M", TimeError::IsDelay),
        ("1 Sep 2023 18:40 IST", ambiguous("IST", "India, Israel or Ireland")),
        ("1 Sep 2023 18:40 CST", ambiguous("CST", "North America, China or Cuba")),
        ("2023-09-01 18:40:00 bst", ambiguous("BST", "Britain in summer or Bangladesh")),
        ("1 Sep 2023 18:40 XYZ", unknown("XYZ")),
        ("1 Sep 2023 18:40 Mars/Phobos", unknown("Mars/Phobos")),
        ("1 Sep 2023 18:40 Etc/Unknown", unknown("Etc/Unknown")),
        ("2023-09-01T18:40[Mars/Phobos]", unknown("Mars/Phobos")),
        ("2023-09-01T18:40:00+05:00[Europe/Berlin]", TimeError::OffsetContradictsZone),
        ("1693593600", TimeError::WrongUnit(EpochUnit::Seconds)),
        ("1693593600000000", TimeError::WrongUnit(EpochUnit::Microseconds)),
        ("1693593600000000000", TimeError::WrongUnit(EpochUnit::Nanoseconds)),
        ("0", TimeError::OutOfRange),
        ("90", TimeError::OutOfRange),
        ("9223372036854775807", TimeError::WrongUnit(EpochUnit::Nanoseconds)),
        ("300000000000000000", TimeError::OutOfRange),
        ("99999999999999999999999999999999999999999999999", TimeError::OutOfRange),
        ("0000-01-01T00:00:00Z", TimeError::OutOfRange),
        ("1601-01-01T00:00:00Z", TimeError::OutOfRange),
        ("1970-01-01T00:00:00Z", TimeError::OutOfRange),
        ("1999-12-31T23:59:59.999Z", TimeError::OutOfRange),
        ("9999-12-31T23:59:59.9991Z", TimeError::OutOfRange),
        ("9999-12-31T23:59:59-23:59", TimeError::OutOfRange),
    ];
    for (text, error) in cases {
        assert_eq!(parse_due(text, None), Err(error), "{text}");
    }
    assert_eq!(parse_due(&"1".repeat(100_000), None), Err(TimeError::NotATime));
}

#[test]
fn delays_in_every_form() {
    let cases = [
        ("90s", 90_000),
        ("1h30m", 5_400_000),
        ("1h 30m", 5_400_000),
        ("PT15M", 900_000),
        ("pt1h0.5s", 3_600_500),
        ("P1DT12H", 129_600_000),
        ("P2W", 1_209_600_000),
        ("500ms", 500),
        ("5m", 300_000),
        ("2d", 172_800_000),
        ("1.5h", 5_400_000),
        ("1500µs", 2),
        ("0s", 0),
        ("9223372036854775807ms", i64::MAX),
    ];
    for (text, ms) in cases {
        assert_eq!(parse_delay(text), Ok(ms), "{text}");
    }
}

#[test]
fn what_is_not_a_delay_says_why() {
    let cases = [
        ("", TimeError::Empty),
        ("90", TimeError::NoUnit),
        ("PT15", TimeError::NoUnit),
        ("-5s", TimeError::Negative),
        ("-PT5S", TimeError::Negative),
        ("-9223372036854775807s", TimeError::Negative),
        ("-90", TimeError::NoUnit),
        ("--5s", TimeError::NotADelay),
        ("NaN", TimeError::NotADelay),
        ("inf", TimeError::NotADelay),
        ("+5s", TimeError::NotADelay),
        ("1e3s", TimeError::NotADelay),
        ("5M", TimeError::NotADelay),
        ("30m1h", TimeError::NotADelay),
        ("1s1s", TimeError::NotADelay),
        ("1.s", TimeError::NotADelay),
        ("P", TimeError::NotADelay),
        ("PT", TimeError::NotADelay),
        ("P15T", TimeError::NotADelay),
        ("P1DT", TimeError::NotADelay),
        ("P1M", TimeError::CalendarUnit),
        ("P1Y", TimeError::CalendarUnit),
        ("2023-09-01T18:40:00Z", TimeError::NotADelay),
        ("9223372036854775807s", TimeError::TooLong),
        ("9223372036854775808ms", TimeError::TooLong),
        ("99999999999999999999999999999999999999999s", TimeError::TooLong),
        ("99999999999999999999999999999999999999w", TimeError::TooLong),
    ];
    for (text, error) in cases {
        assert_eq!(parse_delay(text), Err(error), "{text}");
    }
    assert_eq!(parse_delay(&"1h".repeat(100_000)), Err(TimeError::NotADelay));
}

#[test]
fn phrases() {
    let berlin = zone("Europe/Berlin");
    // 23:30 on 31 August in Berlin: tomorrow is September, and UTC is a day behind Auckland.
    let now = at("2023-08-31T21:30:00Z");
    let cases = [
        ("tomorrow 09:00 Europe/Berlin", "2023-09-01T07:00:00Z"),
        ("Tomorrow 09:00", "2023-09-01T07:00:00Z"),
        ("today 18:00 Europe/Berlin", "2023-08-31T16:00:00Z"),
        ("today 18:00:30 CET", "2023-08-31T17:00:30Z"),
        ("tomorrow 09:00 Pacific/Auckland", "2023-09-01T21:00:00Z"),
        ("09:00 Europe/Berlin", "2023-09-01T07:00:00Z"),
        ("23:45", "2023-08-31T21:45:00Z"),
        ("23:30", "2023-08-31T21:30:00Z"),
        ("1 Sep 2023 18:40", "2023-09-01T16:40:00Z"),
        ("1693593600000", "2023-09-01T18:40:00Z"),
    ];
    for (text, expected) in cases {
        assert_eq!(parse_at(text, now, Some(&berlin)), Ok(at(expected)), "{text}");
    }
    let refused = [
        ("tomorrow 09:00", TimeError::NoZone),
        ("09:00", TimeError::NoZone),
        ("tomorrow", TimeError::NotATime),
        ("tomorrow 9:00 CET", TimeError::NotATime),
        ("tomorrow 09:00 CET CET", TimeError::NotATime),
        ("today 25:00 CET", TimeError::NoSuchTimeOfDay),
        ("23:59:60 CET", TimeError::LeapSecond),
        ("5m", TimeError::IsDelay),
        ("", TimeError::Empty),
    ];
    for (text, error) in refused {
        assert_eq!(parse_at(text, now, None), Err(error), "{text}");
    }
    assert_eq!(parse_at("today 09:00 CET", i64::MAX, None), Err(TimeError::OutOfRange));
}

proptest! {
    #[test]
    fn printed_times_are_read_back(ms in EARLIEST_MS..=at("9999-12-30T22:00:00Z")) {
        let instant = Timestamp::from_millisecond(ms).unwrap();
        prop_assert_eq!(parse_due(&ms.to_string(), None), Ok(ms));
        prop_assert_eq!(parse_due(&instant.to_string(), None), Ok(ms));
        // jiff prints `2023-09-01T18:40:00+02:00[Europe/Berlin]`.
        let zoned = instant.to_zoned(zone("Europe/Berlin"));
        prop_assert_eq!(parse_due(&zoned.to_string(), None), Ok(ms));
        let worded = zoned.strftime("%-d %b %Y %H:%M:%S%.f %z").to_string();
        prop_assert_eq!(parse_due(&worded, None), Ok(ms));
    }

    #[test]
    fn never_earlier_than_written(ms in EARLIEST_MS..at("9999-01-01T00:00:00Z"), nanos in 0_i64..1_000_000) {
        let instant = Timestamp::from_nanosecond(i128::from(ms) * 1_000_000 + i128::from(nanos)).unwrap();
        prop_assert_eq!(parse_due(&instant.to_string(), None), Ok(ms + i64::from(nanos > 0)));
    }

    #[test]
    fn printed_delays_are_read_back(ms in 0..=i64::MAX) {
        let (s, rest) = (ms / 1_000, ms % 1_000);
        let (h, m, s) = (s / 3_600, s / 60 % 60, s % 60);
        prop_assert_eq!(parse_delay(&format!("{ms}ms")), Ok(ms));
        prop_assert_eq!(parse_delay(&format!("{h}h{m}m{s}s{rest}ms")), Ok(ms));
        prop_assert_eq!(parse_delay(&format!("PT{h}H{m}M{s}.{rest:03}S")), Ok(ms));
    }

    #[test]
    fn no_text_panics(
        text in "\\PC{0,60}|[0-9TZ:+\\-. a-zµ\\[\\]/]{0,40}|[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}\\PC{0,20}|P?[0-9.]{1,40}[a-zA-Z]{0,3}",
        now: i64,
    ) {
        let berlin = zone("Europe/Berlin");
        for due in [parse_due(&text, Some(&berlin)), parse_at(&text, now, Some(&berlin))].into_iter().flatten() {
            prop_assert!((EARLIEST_MS..=LATEST_MS).contains(&due));
        }
        if let Ok(delay) = parse_delay(&text) {
            prop_assert!(delay >= 0);
        }
    }
}
