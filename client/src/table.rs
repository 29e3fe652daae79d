//! Rows under a heading, for people.

/// Columns as wide as their widest cell, two spaces apart; a line a row. Of a cell's control characters, which would move
/// a terminal's cursor, dots are left.
pub fn columns<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    let heading = heading.map(str::to_owned);
    let all = || std::iter::once(&heading).chain(rows);
    let shown = |c: char| if c.is_control() { '·' } else { c };
    let widths: [usize; N] =
        std::array::from_fn(|column| all().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let mut text = String::new();
    for row in all() {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let cell: String = cell.chars().map(shown).collect();
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
