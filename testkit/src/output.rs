//! Output for people: the only module that prints.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the one place for output")]

/// Prints a line; a closed pipe is not an error.
pub fn line(text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{text}").is_ok() {
        let _ = out.flush();
    }
}

/// Prints why a command failed.
pub fn error(text: &str) {
    eprintln!("error: {text}");
}

/// Columns aligned, the first to the left, the others to the right.
#[must_use]
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            line.push_str(&if column == 0 {
                format!("  {cell:<width$}")
            } else {
                format!("  {cell:>width$}")
            });
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn numbers_are_aligned_to_the_right() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        assert_eq!(
            table(&[row(["clients", "1", "256"]), row(["p50", "1.25", "9"])]),
            "  clients     1  256\n  p50      1.25    9\n"
        );
    }
}
