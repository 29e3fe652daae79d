//! Parsers for kinds of values that several settings have.

use jiff::SignedDuration;

/// `HOST:PORT`; the host may be a name, or an IPv6 address in brackets.
///
/// # Errors
/// The text has no host or no port.
pub fn address(text: &str) -> Result<String, &'static str> {
    const EXPECTED: &str = "HOST:PORT is expected";
    let (host, port) = text.rsplit_once(':').ok_or(EXPECTED)?;
    let plain = !host.is_empty() && (!host.contains(':') || host.starts_with('[') && host.ends_with(']'));
    if plain && !host.contains("//") && port.parse::<u16>().is_ok() {
        Ok(text.to_owned())
    } else {
        Err(EXPECTED)
    }
}

/// `HOST:PORT[,HOST:PORT…]`.
///
/// # Errors
/// One of them has no host or no port, or there is none.
pub fn addresses(text: &str) -> Result<String, &'static str> {
    text.split(',').try_for_each(|one| address(one.trim()).map(drop))?;
    Ok(text.to_owned())
}

/// A span such as `10s`, `1m30s`, `500ms`, `PT5S`, in milliseconds.
///
/// # Errors
/// It does not parse, is negative, or has a fraction of a millisecond.
pub fn duration_ms(text: &str) -> Result<i64, String> {
    let span: SignedDuration =
        text.parse().map_err(|_| "a span such as 10s or 1m30s is expected".to_owned())?;
    if span.is_negative() {
        return Err("it must not be negative".to_owned());
    }
    let ms = i64::try_from(span.as_millis()).map_err(|_| "it is too long".to_owned())?;
    if span != SignedDuration::from_millis(ms) {
        Err("whole milliseconds are expected".to_owned())
    } else {
        Ok(ms)
    }
}

/// `true` or `false`.
///
/// # Errors
/// It is neither.
pub fn switch(text: &str) -> Result<bool, &'static str> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("true or false is expected"),
    }
}

/// A number of bytes: `1048576`, `64KiB`, `256MiB`, `1GiB`.
///
/// # Errors
/// It is none of these, or more than the machine can address.
pub fn byte_count(text: &str) -> Result<usize, &'static str> {
    const EXPECTED: &str = "a number of bytes such as 256MiB is expected";
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].trim() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return Err(EXPECTED),
    };
    let number: usize = digits.trim().parse().map_err(|_| EXPECTED)?;
    number.checked_mul(1 << shift).ok_or(EXPECTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        assert_eq!(duration_ms("10s"), Ok(10_000));
        assert_eq!(duration_ms("1m30s"), Ok(90_000));
        assert_eq!(duration_ms("PT0.25S"), Ok(250));
        assert!(duration_ms("10").is_err() && duration_ms("-1s").is_err() && duration_ms("1us").is_err());
        assert!(address("[::1]:50051").is_ok() && address("kafka.example:9092").is_ok());
        for wrong in ["127.0.0.1", ":80", "http://a:80", "::1:80", "a:70000", ""] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
        assert!(addresses("a:1,b:2").is_ok() && addresses("a:1,").is_err());
        assert_eq!(byte_count("256MiB"), Ok(256 << 20));
        assert_eq!(byte_count("17"), Ok(17));
        assert!(byte_count("1.5MiB").is_err() && byte_count("99999999999GiB").is_err());
    }
}
