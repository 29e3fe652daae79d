//! HTML that is well-formed XML as well, so that a test can read it.

/// For text and for attributes in double quotes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let text = printable(text);
    for (place, character) in text.char_indices() {
        match character {
            // A number and its unit stay on one line.
            ' ' if is_before_unit(&text, place) => escaped.push('\u{a0}'),
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Whether the space at this place is between a number and a unit.
fn is_before_unit(text: &str, space: usize) -> bool {
    const UNITS: [&str; 11] = ["ms", "s", "min", "h", "µs", "B", "kB", "MB", "GB", "%", "×"];
    let (before, after) = text.split_at(space);
    let word = after
        .trim_start()
        .split(|c: char| c.is_whitespace() || ",.;:)–".contains(c))
        .next()
        .unwrap_or_default();
    before.ends_with(|c: char| c.is_ascii_digit()) && UNITS.contains(&word)
}

/// Without what no XML may contain in any form.
pub(super) fn printable(text: &str) -> String {
    let kept = |c: char| if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') { ' ' } else { c };
    text.chars().map(kept).collect()
}

/// A table with headings to its columns and to its rows. All of it is escaped here.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    pub(super) caption: String,
    /// The first one is above the rows' headings.
    pub(super) columns: Vec<Cell>,
    pub(super) rows: Vec<Vec<Cell>>,
}

/// A cell: its text, smaller lines below, and the place of the system whose colour marks it.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) notes: Vec<String>,
    pub(super) system: Option<usize>,
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, ..Self::default() }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl Table {
    pub(super) fn html(&self) -> String {
        let mut html = String::new();
        let caption = escape(&self.caption);
        // Wider than a phone it is moved by itself, also by the keyboard.
        html.push_str(&format!(
            "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{caption}\"><table>\n\
             <caption><span>{caption}</span></caption>\n<thead><tr>"
        ));
        for column in &self.columns {
            html.push_str(&format!("<th scope=\"col\">{}</th>", column.html()));
        }
        html.push_str("</tr></thead>\n<tbody>\n");
        for row in &self.rows {
            html.push_str("<tr>");
            for (place, cell) in row.iter().enumerate() {
                match place {
                    0 => html.push_str(&format!("<th scope=\"row\">{}</th>", cell.html())),
                    _ => html.push_str(&format!("<td>{}</td>", cell.html())),
                }
            }
            html.push_str("</tr>\n");
        }
        html.push_str("</tbody></table></div>\n");
        html
    }
}

impl Cell {
    fn html(&self) -> String {
        let mut html = String::new();
        match self.system {
            Some(place) => {
                let (chip, text) = (chip(place), escape(&self.text));
                html.push_str(&format!("<span class=\"system\">{chip}{text}</span>"));
            }
            None => html.push_str(&escape(&self.text)),
        }
        for note in self.notes.iter().filter(|note| !note.is_empty()) {
            html.push_str(&format!("<small>{}</small>", escape(note)));
        }
        html
    }
}

/// A spot in a system's colour.
pub(super) fn chip(place: usize) -> String {
    format!(
        "<i class=\"chip\" style=\"background:var({})\" aria-hidden=\"true\"></i>",
        super::palette::variable(place)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_is_markup_and_numbers_keep_their_units() {
        assert_eq!(escape("within 10 ms, 5 of 7"), "within 10\u{a0}ms, 5 of 7");
        assert_eq!(escape("<b a=\"x\">&'\u{0}"), "&lt;b a=&quot;x&quot;&gt;&amp;&#39; ");
    }
}
