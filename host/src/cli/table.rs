//! Tables and values as a person reads them.

use comfy_table::{CellAlignment, ContentArrangement, presets::NOTHING};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Shown in place of an absent value.
const ABSENT: &str = "–";

/// Rows under a heading, without borders. Columns whose cells are all numbers are aligned to the right.
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

    /// Its lines, or `none`. Lines are as wide as their cells, on a terminal too, so that they can be
    /// searched and cut.
    pub(super) fn text(&self) -> String {
        if self.rows.is_empty() {
            return "none".to_owned();
        }
        let mut table = comfy_table::Table::new();
        table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(&self.heading).add_rows(&self.rows);
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            if self.is_numeric(index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.trim_fmt()
    }

    fn is_numeric(&self, column: usize) -> bool {
        let cells = || self.rows.iter().filter_map(|row| row.get(column));
        let number = |cell: &String| cell == ABSENT || cell.chars().all(|c| c.is_ascii_digit() || c == ',');
        cells().all(number) && cells().any(|cell| cell.starts_with(|c: char| c.is_ascii_digit()))
    }
}

/// A text, or [`ABSENT`].
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() => text.clone(),
        Value::Null | Value::String(_) => ABSENT.to_owned(),
        other => other.to_string(),
    }
}

/// A count in groups of three.
pub(super) fn count(value: &Value) -> String {
    let Some(count) = value.as_u64() else { return ABSENT.to_owned() };
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
    value.as_str().map_or_else(|| ABSENT.to_owned(), crate::log::shorten)
}

/// The distance of a time from now, in the past or the future.
pub(super) fn age(value: &Value) -> String {
    let at = value.as_str().and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
    at.map_or_else(
        || ABSENT.to_owned(),
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

/// The time of day, to milliseconds.
pub(super) fn clock(value: &Value) -> String {
    value.as_str().and_then(|text| text.get(11..23)).map_or_else(|| text(value), str::to_owned)
}

/// One line of at most `width` characters; a cut is marked by `…`.
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
    fn texts_are_aligned_left_and_numbers_right() {
        let mut table = Table::new(&["NAME", "UNITS", "IN FLIGHT"]);
        table.row(["inventory-command".into(), count(&json!(40)), text(&json!(null))]);
        table.row(["query".into(), count(&json!(1_234_567)), count(&json!(3))]);
        insta::assert_snapshot!(table.text(), @r"
        NAME                   UNITS  IN FLIGHT
        inventory-command         40          –
        query              1,234,567          3
        ");
    }

    #[test]
    fn values_read_well() {
        assert_eq!(clock(&json!("2026-11-22T19:28:00.123456Z")), "19:28:00.123");
        assert_eq!(cut("a longer\ntext", 9), "a longer…");
        let ages: Vec<String> = [12, 119, 120, 7_200, 172_800].into_iter().map(seconds).collect();
        assert_eq!(ages, ["12 s", "119 s", "2 min", "2 h", "2 d"]);
    }
}
