//! Plain tables: columns as wide as their widest cell on the screen, two spaces between them.

use unicode_width::UnicodeWidthStr;

/// Which side a column's cells stand on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A table in the making. Cells must be safe to show already ([`crate::base::escape`]).
#[derive(Debug, Clone)]
pub struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<Vec<String>>>,
    footer: Vec<String>,
}

impl Table {
    /// An empty table with these columns.
    #[must_use]
    pub fn new(columns: &[(&str, Align)]) -> Self {
        let columns = columns.iter().map(|(name, align)| ((*name).to_owned(), *align)).collect();
        Self { columns, rows: Vec::new(), footer: Vec::new() }
    }

    /// Adds a row of one line. Missing cells are empty, cells beyond the columns are not shown.
    pub fn row<C: Into<String>>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.rows.push(cells.into_iter().map(|cell| vec![cell.into()]).collect());
    }

    /// Adds a row whose cells may have several lines (the paths of a snapshot).
    pub fn row_of_lines(&mut self, cells: Vec<Vec<String>>) {
        self.rows.push(cells);
    }

    /// Adds a line below the table.
    pub fn footer(&mut self, line: impl Into<String>) {
        self.footer.push(line.into());
    }

    /// The table as text: header, rule, rows, rule and footer, each line ended.
    #[must_use]
    pub fn render(&self) -> String {
        let mut widths: Vec<usize> = self.columns.iter().map(|(name, _)| name.width()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.iter().map(|line| line.width()).fold(*width, usize::max);
            }
        }
        let mut text = String::new();
        let header: Vec<&str> = self.columns.iter().map(|(name, _)| name.as_str()).collect();
        self.line(&mut text, &widths, &header);
        let whole: usize = widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1);
        let rule = "-".repeat(whole);
        text.push_str(&rule);
        text.push('\n');
        for row in &self.rows {
            let height = row.iter().map(Vec::len).max().unwrap_or(0);
            for index in 0..height {
                let cells: Vec<&str> = row.iter().map(|cell| cell.get(index).map_or("", String::as_str)).collect();
                self.line(&mut text, &widths, &cells);
            }
        }
        if !self.footer.is_empty() {
            text.push_str(&rule);
            text.push('\n');
            for line in &self.footer {
                text.push_str(line);
                text.push('\n');
            }
        }
        text
    }

    fn line(&self, text: &mut String, widths: &[usize], cells: &[&str]) {
        let start = text.len();
        for (index, ((_, align), width)) in self.columns.iter().zip(widths).enumerate() {
            let cell = cells.get(index).copied().unwrap_or("");
            let blanks = " ".repeat(width.saturating_sub(cell.width()));
            if index > 0 {
                text.push_str("  ");
            }
            match align {
                Align::Left => {
                    text.push_str(cell);
                    text.push_str(&blanks);
                }
                Align::Right => {
                    text.push_str(&blanks);
                    text.push_str(cell);
                }
            }
        }
        let end = text[start..].trim_end().len();
        text.truncate(start + end);
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_the_script() {
        let mut table = Table::new(&[("ID", Align::Left), ("Size", Align::Right), ("Path", Align::Left)]);
        table.row(["7f3a91c2", "1.48 GB", "/home"]);
        table.row_of_lines(vec![vec!["雪".to_owned()], vec!["5 B".to_owned()], vec!["/a".to_owned(), "/b".to_owned()]]);
        table.footer("2 snapshots");
        let expected = "\
ID           Size  Path
------------------------
7f3a91c2  1.48 GB  /home
雪            5 B  /a
                   /b
------------------------
2 snapshots
";
        assert_eq!(table.render(), expected);
    }

    #[test]
    fn short_rows_and_empty_tables_are_fine() {
        let mut table = Table::new(&[("A", Align::Left), ("B", Align::Right)]);
        assert_eq!(table.render(), "A  B\n----\n");
        table.row(["x"]);
        table.row(["x", "y", "z"]);
        assert_eq!(table.render(), "A  B\n----\nx\nx  y\n");
    }
}
