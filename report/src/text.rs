//! Numbers and tables for people.

/// Columns as wide as their widest cell, two spaces apart, all but the first to the right; a line
/// a row. Unlike the client's tables these have as many columns as there are systems.
pub(crate) fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| Some(row.get(column)?.chars().count())).max();
    let widths: Vec<usize> = (0..count).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            match column {
                0 => line.push_str(&format!("{cell:width$}")),
                _ => line.push_str(&format!("  {cell:>width$}")),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three significant digits at most, two behind the point unless it is very small, grouped: `0.0008`, `0.04`,
/// `9.83`, `109`, `12,345`.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return "∞".to_owned();
    }
    // Below what rounds to the next power of ten; what is very small is not nothing.
    let decimals = match size {
        size if size > 0.0 && size < 0.01 => (-size.log10().floor()).min(9.0) as usize,
        size if size < 9.995 => 2,
        size => usize::from(size < 99.95),
    };
    if size >= 99.95 {
        let sign = if value < 0.0 { "−" } else { "" };
        return format!("{sign}{}", grouped(size.round() as u64));
    }
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// A span that is given in ms, in the unit that suits it.
pub(crate) fn span_ms(ms: f64) -> String {
    match ms.abs() {
        _ if !ms.is_finite() => "never".to_owned(),
        0.0 => "0 s".to_owned(),
        size if size < 999.5 => format!("{} ms", number(ms)),
        size if size < 119_950.0 => format!("{} s", number(ms / 1e3)),
        size if size < 7_197_000.0 => format!("{} min", number(ms / 6e4)),
        _ => format!("{} h", number(ms / 3.6e6)),
    }
}

/// Bytes by powers of 1,000.
pub(crate) fn bytes(bytes: f64) -> String {
    match bytes.abs() {
        size if size < 999.5 => format!("{} B", number(bytes)),
        size if size < 999_500.0 => format!("{} kB", number(bytes / 1e3)),
        size if size < 999_500_000.0 => format!("{} MB", number(bytes / 1e6)),
        _ => format!("{} GB", number(bytes / 1e9)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_mean_something() {
        let pairs = [
            (0.0, "0"),
            (0.000_79, "0.0008"),
            (0.041, "0.04"),
            (1.0, "1"),
            (9.826, "9.83"),
            (9.999, "10"),
            (52.04, "52"),
            (52.06, "52.1"),
            (99.96, "100"),
            (12_345.6, "12,346"),
            (-3.25, "-3.25"),
            (f64::INFINITY, "∞"),
        ];
        for (value, wanted) in pairs {
            assert_eq!(number(value), wanted);
        }
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(100), "100");
    }

    #[test]
    fn spans_and_bytes_choose_their_unit() {
        assert_eq!(span_ms(9.8), "9.8 ms");
        assert_eq!(span_ms(59_400.0), "59.4 s");
        assert_eq!(span_ms(f64::INFINITY), "never");
        assert_eq!(bytes(1.5e9), "1.5 GB");
        assert_eq!(bytes(64.0e6), "64 MB");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["A".to_owned(), "ONE".to_owned()], vec!["longer".to_owned(), "1".to_owned()]];
        assert_eq!(columns(&rows), "A       ONE\nlonger    1\n");
        assert_eq!(columns(&[]), "");
    }
}
