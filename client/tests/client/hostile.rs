//! Every line of "bad input" at the command line: exit code 2, nothing on stdout, and
//! on stderr what is wrong with which argument. No coordinator is asked.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

use crate::cli::run;

const NOT_A_DELAY: &str = "is not a delay: expected 90s, 1h30m, 500ms, 2d, or PT15M";
const NOT_A_TIME: &str = "is not a time: expected RFC 3339 (2023-09-01T18:40:00+02:00), epoch milliseconds, or 1 Sep 2023 18:40 Europe/Berlin";
const NO_ZONE: &str =
    "has no time zone, and no default zone applies: append Z, an offset (+02:00) or a name (Europe/Berlin)";
const OUT_OF_RANGE: &str = "lies outside the years 2000 to 9999";
const NAME_VALUE: &str = "expected NAME=VALUE";

/// An option, its value, what is said of it.
const VALUES: &[(&str, &str, &str)] = &[
    ("delay", "", "is empty"),
    ("delay", "five", NOT_A_DELAY),
    ("delay", "90", "has no unit: write 90s or 90ms"),
    ("delay", "-1s", "is negative"),
    ("delay", "NaN", NOT_A_DELAY),
    ("delay", "inf", NOT_A_DELAY),
    ("delay", "1e3s", NOT_A_DELAY),
    ("delay", "1mo", NOT_A_DELAY),
    ("delay", "P1M", "has a unit without a fixed length (month or year)"),
    ("delay", "9223372036854775807s", "is too long: milliseconds do not fit 64 bits"),
    ("at", "", "is empty"),
    ("at", "NaN", NOT_A_TIME),
    ("at", "5m", "is a delay, not a time"),
    ("at", "2023-02-30T00:00:00Z", "names a day that does not exist"),
    ("at", "2027-01-01 00:00:00", NO_ZONE),
    ("at", "tomorrow 09:00", NO_ZONE),
    (
        "at",
        "tomorrow 09:00 IST",
        "zone IST is ambiguous (India, Israel or Ireland): write an offset (+02:00) or a name (Europe/Berlin)",
    ),
    (
        "at",
        "1 Jan 2027 00:00 CST",
        "zone CST is ambiguous (North America, China or Cuba): write an offset (+02:00) or a name (Europe/Berlin)",
    ),
    ("at", "1795000000", "looks like epoch seconds: epoch milliseconds are expected"),
    ("at", "1795000000000000", "looks like epoch microseconds: epoch milliseconds are expected"),
    ("at", "1795000000000000000", "looks like epoch nanoseconds: epoch milliseconds are expected"),
    ("at", "0000-01-01T00:00:00Z", OUT_OF_RANGE),
    ("at", "1601-01-01T00:00:00Z", OUT_OF_RANGE),
    ("at", "10000-01-01T00:00:00Z", NOT_A_TIME),
    ("header", "nameless", NAME_VALUE),
    ("header", "=value", NAME_VALUE),
    ("partition", "x", "invalid digit found in string"),
    ("partition", "-1", "-1 is not in 0..=2147483647"),
    ("partition", "2147483648", "2147483648 is not in 0..=2147483647"),
];

/// What is wrong between arguments, or with what they name.
const WHOLES: &[(&[&str], &str)] = &[
    (&["payload"], "the following required arguments were not provided:"),
    (
        &["--delay=1s", "--at=1795000000000", "payload"],
        "the argument '--delay <DELAY>' cannot be used with '--at <AT>'",
    ),
    (&["--delay=1s", "--file=/nowhere"], "/nowhere: No such file or directory (os error 2)"),
    (
        &["--delay=1s", "--file=/nowhere", "payload"],
        "the argument '--file <FILE>' cannot be used with '[PAYLOAD]'",
    ),
    (
        &["--delay=1s", "--lines", "--request-id=r"],
        "the argument '--lines' cannot be used with '--request-id <REQUEST_ID>'",
    ),
    (
        &["--delay=1s", "--server=http://there:1", "payload"],
        "\"http://there:1\" is not the address of a coordinator: HOST:PORT is wanted, such as 127.0.0.1:50051",
    ),
    (
        &["--delay=1s", "--server=there", "payload"],
        "\"there\" is not the address of a coordinator: HOST:PORT is wanted, such as 127.0.0.1:50051",
    ),
    (
        &["--delay=1s", "--server=there:99999", "payload"],
        "\"there:99999\" is not the address of a coordinator: HOST:PORT is wanted, such as 127.0.0.1:50051",
    ),
];

fn assert_refused(arguments: &[&OsStr], first_line: &str) {
    let output = run(&[&[OsStr::new("schedule"), OsStr::new("--topic=t")], arguments].concat());
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
    assert!(output.stdout.is_empty(), "{arguments:?}: {output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(stderr.lines().next(), Some(first_line), "{arguments:?}");
}

#[test]
fn each_value_is_refused_by_its_option() {
    for (option, value, why) in VALUES {
        let argument = format!("--{option}={value}");
        let mut arguments = vec![OsStr::new(&argument), OsStr::new("payload")];
        if !matches!(*option, "delay" | "at") {
            arguments.push(OsStr::new("--delay=1s"));
        }
        let placeholder = if *option == "header" { "NAME=VALUE".to_owned() } else { option.to_uppercase() };
        let line = format!("error: invalid value '{value}' for '--{option} <{placeholder}>': {why}");
        assert_refused(&arguments, &line);
    }
}

#[test]
fn what_contradicts_or_is_not_there_is_refused() {
    for (arguments, why) in WHOLES {
        let arguments: Vec<_> = arguments.iter().map(OsStr::new).collect();
        assert_refused(&arguments, &format!("error: {why}"));
    }
}

#[test]
fn arguments_that_are_not_utf8_are_refused() {
    let not_utf8 = OsStr::from_bytes(b"\xff");
    assert_refused(
        &[OsStr::new("--delay=1s"), not_utf8],
        "error: invalid UTF-8 was detected in one or more arguments",
    );
}
