//! Aligned columns, and values as a person reads them.

use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Shown where there is nothing.
const NOTHING: &str = "–";

/// Rows under a heading. Columns whose cells all are numbers stand to the right.
pub(super) struct Table {
    heading: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(heading: &[&'static str]) -> Self {
        Self { heading: heading.to_vec(), rows: Vec::new() }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// Its lines, or that there is nothing.
    pub(super) fn text(&self) -> String {
        if self.rows.is_empty() {
            return "none".to_owned();
        }
        let columns: Vec<(usize, bool)> = (0..self.heading.len()).map(|column| self.column(column)).collect();
        let heading: Vec<String> = self.heading.iter().map(|name| (*name).to_owned()).collect();
        let lines = std::iter::once(&heading).chain(&self.rows).map(|row| {
            let cells = row.iter().zip(&columns).map(|(cell, (width, right))| match right {
                true => format!("{cell:>width$}"),
                false => format!("{cell:<width$}"),
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn column(&self, column: usize) -> (usize, bool) {
        let cells = || self.rows.iter().filter_map(|row| row.get(column));
        let heading = self.heading.get(column).map_or(0, |name| name.chars().count());
        let width = cells().map(|cell| cell.chars().count()).max().unwrap_or(0).max(heading);
        let number = |cell: &String| cell == NOTHING || cell.chars().all(|c| c.is_ascii_digit() || c == ',');
        let any = cells().any(|cell| cell.starts_with(|c: char| c.is_ascii_digit()));
        (width, any && cells().all(number))
    }
}

/// A text, or nothing.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() => text.clone(),
        Value::Null | Value::String(_) => NOTHING.to_owned(),
        other => other.to_string(),
    }
}

/// A count in groups of three.
pub(super) fn count(value: &Value) -> String {
    let Some(count) = value.as_u64() else { return NOTHING.to_owned() };
    let digits = count.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// The start of a digest.
pub(super) fn digest(value: &Value) -> String {
    value.as_str().map_or_else(|| NOTHING.to_owned(), crate::log::shorten)
}

/// How long ago a time was, or until it is.
pub(super) fn age(value: &Value) -> String {
    let at = value.as_str().and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
    at.map_or_else(
        || NOTHING.to_owned(),
        |at| seconds((OffsetDateTime::now_utc() - at).whole_seconds().unsigned_abs()),
    )
}

fn seconds(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Hours to milliseconds of a time.
pub(super) fn clock(value: &Value) -> String {
    value.as_str().and_then(|text| text.get(11..23)).map_or_else(|| text(value), str::to_owned)
}

/// Cut to a width, which is said.
pub(super) fn cut(text: &str, width: usize) -> String {
    let line = text.replace('\n', " ");
    if line.chars().count() <= width {
        return line;
    }
    let start: String = line.chars().take(width.saturating_sub(1)).collect();
    format!("{start}…")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Table, clock, count, cut, seconds, text};

    #[test]
    fn words_stand_to_the_left_and_numbers_to_the_right() {
        let mut table = Table::new(&["NAME", "UNITS", "IN FLIGHT"]);
        table.row(["inventory-command".into(), count(&json!(40)), text(&json!(null))]);
        table.row([String::new(), count(&json!(1_234_567)), count(&json!(3))]);
        assert_eq!(
            table.text(),
            "NAME                   UNITS  IN FLIGHT\n\
             inventory-command         40          –\n\
             \x20                  1,234,567          3"
        );
    }

    #[test]
    fn values_read_well() {
        assert_eq!(clock(&json!("2026-11-22T19:28:00.123456Z")), "19:28:00.123");
        assert_eq!(cut("a longer\ntext", 9), "a longer…");
        let ages: Vec<String> = [12, 119, 120, 7_200, 172_800].into_iter().map(seconds).collect();
        assert_eq!(ages, ["12 s", "119 s", "2 min", "2 h", "2 d"]);
    }
}
