//! Rows of JSON as a table for people.

use serde_json::Value;

/// A column: its head, and where its value stands in a row, as a JSON pointer.
pub type Column = (&'static str, &'static str);

/// Characters up to which a column grows: what is longer is shown as a whole, and moves the rest of its
/// own line alone.
const WIDTH_MAX: usize = 48;

/// Writes pages of rows under one head; columns grow with what they hold.
pub struct Table {
    columns: &'static [Column],
    widths: Vec<usize>,
    has_head: bool,
}

impl Table {
    /// With these columns.
    pub fn new(columns: &'static [Column]) -> Table {
        Table {
            columns,
            widths: columns.iter().map(|(head, _)| head.len()).collect(),
            has_head: false,
        }
    }

    /// The lines of a page.
    pub fn lines(&mut self, rows: &[Value]) -> String {
        let cells: Vec<Vec<String>> = rows
            .iter()
            .map(|row| {
                self.columns
                    .iter()
                    .map(|(_, at)| cell(row.pointer(at)))
                    .collect()
            })
            .collect();
        for row in &cells {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count().min(WIDTH_MAX));
            }
        }
        let mut lines = String::new();
        if !self.has_head {
            let heads: Vec<String> = self
                .columns
                .iter()
                .map(|(head, _)| (*head).to_owned())
                .collect();
            self.line(&heads, &mut lines);
            self.has_head = true;
        }
        for row in &cells {
            self.line(row, &mut lines);
        }
        lines
    }

    fn line(&self, cells: &[String], lines: &mut String) {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(&self.widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        lines.push_str(line.trim_end());
        lines.push('\n');
    }
}

/// An object as lines of names and values; what is inside it is indented.
pub fn described(value: &Value, indent: usize) -> String {
    let Value::Object(fields) = value else {
        return format!("{:indent$}{}\n", "", cell(Some(value)));
    };
    let width = fields.keys().map(String::len).max().unwrap_or(0);
    let mut lines = String::new();
    for (name, value) in fields {
        match value {
            Value::Object(_) => {
                lines.push_str(&format!("{:indent$}{name}\n", ""));
                lines.push_str(&described(value, indent + 2));
            }
            _ => lines.push_str(&format!(
                "{:indent$}{name:<width$}  {}\n",
                "",
                cell(Some(value))
            )),
        }
    }
    lines
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => printable(text),
        Some(Value::Bool(true)) => "yes".to_owned(),
        Some(Value::Bool(false)) => "no".to_owned(),
        Some(Value::Array(list)) => {
            let parts: Vec<String> = list.iter().map(|value| cell(Some(value))).collect();
            parts.join(", ")
        }
        Some(other) => other.to_string(),
    }
}

/// A text that does nothing to a terminal: it comes from clients.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|letter| {
            if letter.is_control() {
                '\u{fffd}'
            } else {
                letter
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&[("NAME", "/name"), ("IN", "/deep/in")]);
        let rows = [
            json!({ "name": "long name", "deep": { "in": true } }),
            json!({ "name": null }),
        ];
        assert_eq!(
            table.lines(&rows),
            "NAME       IN\nlong name  yes\n-          -\n"
        );
        assert_eq!(table.lines(&rows[1..]), "-          -\n");
        let wide = "x".repeat(3_000);
        let lines = table.lines(&[json!({ "name": wide }), json!({ "name": "a" })]);
        assert_eq!(lines, format!("{wide}  -\n{:48}  -\n", "a"));
    }

    #[test]
    fn nothing_reaches_the_terminal_that_it_would_obey() {
        assert_eq!(cell(Some(&json!("a\u{1b}[2Jb\n"))), "a\u{fffd}[2Jb\u{fffd}");
    }

    #[test]
    fn an_object_is_described() {
        let value = json!({ "a": 1, "list": ["x", "y"], "more": { "b": null } });
        assert_eq!(described(&value, 0), "a     1\nlist  x, y\nmore\n  b  -\n");
    }
}
