//! Rows under a heading, for people.

/// A dot for a control character, which would move a terminal's cursor.
pub fn visible(c: char) -> char {
    if c.is_control() { '·' } else { c }
}

/// Columns as wide as their widest cell, two spaces apart; a line a row.
/// Cells are made [`visible`].
pub fn columns<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    let heading = heading.map(str::to_owned);
    let all = || std::iter::once(&heading).chain(rows);
    let widths: [usize; N] =
        std::array::from_fn(|column| all().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let mut text = String::new();
    for row in all() {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let cell: String = cell.chars().map(visible).collect();
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
