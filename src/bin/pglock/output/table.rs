//! Tables as wide as the terminal.

use super::screen::{Colour, MAX_CELL, Screen};
use super::terminal_text::{cut, width};

/// The width to which texts shrink, at least, before a column is left out.
const MIN_WIDTH: usize = 14;

const GAP: &str = "  ";

/// Lines under titles, cut to the width of the terminal.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Column>,
    titles: Line,
    lines: Vec<Line>,
}

/// A column of a table.
#[derive(Clone, Debug)]
pub struct Column {
    pub title: String,
    /// On a narrow terminal the columns with the highest numbers are left out first.
    pub rank: usize,
    /// True if long cells may be cut; other columns are shown in full or not at all.
    pub is_text: bool,
}

/// A line of a table; its cells are clean texts.
#[derive(Debug)]
pub struct Line {
    pub colour: Colour,
    pub cells: Vec<String>,
}

impl Table {
    /// Creates a table whose columns are left out from the right.
    pub fn new(titles: impl IntoIterator<Item = impl Into<String>>, lines: Vec<Line>) -> Self {
        let titles = titles.into_iter().map(Into::into);
        let columns = titles.enumerate().map(|(rank, title)| Column {
            title,
            rank,
            is_text: true,
        });
        Self::of_columns(columns.collect(), lines)
    }

    pub fn of_columns(columns: Vec<Column>, lines: Vec<Line>) -> Self {
        let titles = Line {
            colour: Colour::Bold,
            cells: columns.iter().map(|column| column.title.clone()).collect(),
        };
        Self {
            columns,
            titles,
            lines,
        }
    }

    pub fn render(&self, screen: &Screen) -> String {
        let widths = self.widths(screen);
        let lines = self.lines().map(|line| line.render(&widths, screen));
        lines.collect()
    }

    /// Returns the titles of the columns that do not fit the terminal.
    pub fn left_out(&self, screen: &Screen) -> Vec<&str> {
        let widths = self.widths(screen).into_iter().zip(&self.columns);
        let left_out = widths.filter(|(width, _)| width.is_none());
        left_out.map(|(_, column)| &*column.title).collect()
    }

    fn lines(&self) -> impl Iterator<Item = &Line> {
        std::iter::once(&self.titles).chain(&self.lines)
    }

    /// Returns the width of each column; `None` for one that is left out.
    fn widths(&self, screen: &Screen) -> Vec<Option<usize>> {
        let mut widths: Vec<_> = self.natural_widths().into_iter().map(Some).collect();
        let Some(room) = screen.width else {
            return widths;
        };
        let least = self.least_widths(&widths);
        while least_sum(&least, &widths) > room {
            let shown = widths.iter().filter(|width| width.is_some()).count();
            match self.least_important(&widths) {
                Some(column) if shown > 1 => widths[column] = None,
                _ => break,
            }
        }
        shrink(&mut widths, &least, room);
        widths
    }

    fn least_important(&self, widths: &[Option<usize>]) -> Option<usize> {
        let shown = (0..widths.len()).filter(|column| widths[*column].is_some());
        shown.max_by_key(|column| self.columns[*column].rank)
    }

    fn least_widths(&self, natural: &[Option<usize>]) -> Vec<usize> {
        let columns = natural.iter().zip(&self.columns);
        let least = columns.map(|(natural, column)| {
            let natural = natural.unwrap_or_default();
            if column.is_text {
                natural.min(MIN_WIDTH.max(width(&column.title)))
            } else {
                natural
            }
        });
        least.collect()
    }

    fn natural_widths(&self) -> Vec<usize> {
        let mut widths = vec![0; self.columns.len()];
        for line in self.lines() {
            for (column, cell) in widths.iter_mut().zip(&line.cells) {
                *column = width(cell).min(MAX_CELL).max(*column);
            }
        }
        widths
    }
}

/// Returns the width of the shown columns with their gaps, each as narrow as it can be.
fn least_sum(least: &[usize], widths: &[Option<usize>]) -> usize {
    let shown = widths
        .iter()
        .zip(least)
        .filter(|(width, _)| width.is_some());
    let widths: Vec<usize> = shown.map(|(_, least)| *least).collect();
    widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1)
}

/// Narrows the widest columns until all fit, each to its least width at most.
fn shrink(widths: &mut [Option<usize>], least: &[usize], room: usize) {
    let gaps = GAP.len() * widths.iter().flatten().count().saturating_sub(1);
    let room = room.saturating_sub(gaps);
    loop {
        let excess = widths.iter().flatten().sum::<usize>().saturating_sub(room);
        let shown = widths.iter_mut().zip(least);
        let shown = shown.filter_map(|(width, least)| Some((width.as_mut()?, *least)));
        let widest = shown
            .filter(|(width, least)| **width > *least)
            .max_by_key(|(width, _)| **width);
        let Some((widest, least)) = widest.filter(|_| excess > 0) else {
            return;
        };
        // A quarter at a time, so that the widest columns shrink together.
        *widest -= excess.min(*widest - least).min(widest.div_ceil(4));
    }
}

impl Line {
    pub fn plain(cells: Vec<String>) -> Self {
        let colour = Colour::Plain;
        Self { colour, cells }
    }

    fn render(&self, widths: &[Option<usize>], screen: &Screen) -> String {
        let mut text = String::new();
        for (cell, column) in self.cells.iter().zip(widths) {
            let Some(column) = column else { continue };
            let cell = cut(cell, *column);
            let fill = " ".repeat(column - width(&cell));
            text += &format!("{cell}{fill}{GAP}");
        }
        // A terminal can be narrower than the narrowest columns.
        let text = cut(text.trim_end(), screen.width.unwrap_or(usize::MAX));
        screen.paint(self.colour, &text) + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(cells: &[&str]) -> Table {
        let titles = cells.iter().map(|_| "TITLE");
        let cells = cells.iter().map(|it| (*it).to_owned()).collect();
        Table::new(titles, vec![Line::plain(cells)])
    }

    fn screen(width: Option<usize>) -> Screen {
        Screen {
            width,
            height: None,
            colour: false,
        }
    }

    #[test]
    fn a_table_fits_a_terminal_of_any_width() {
        let long = "漢".repeat(5000);
        let table = table(&["1", &long, "idle in transaction", &long, "x"]);
        for columns in 0..200 {
            let text = table.render(&screen(Some(columns)));
            assert_eq!(text.lines().count(), 2);
            assert!(
                text.lines().all(|line| width(line) <= columns),
                "{columns}: {text}"
            );
        }
    }

    #[test]
    fn short_cells_are_not_cut() {
        let text = table(&["4711", &"x".repeat(300)]).render(&screen(Some(40)));
        assert!(text.contains("\n4711   xxx"), "{text}");
        assert!(text.ends_with("xxx…\n"), "{text}");
    }

    #[test]
    fn a_file_has_longer_cells_with_a_limit() {
        let text = table(&[&"x".repeat(70_000), "y"]).render(&screen(None));
        assert!(text.lines().all(|line| width(line) < 250), "{}", text.len());
    }

    #[test]
    fn a_narrow_terminal_leaves_out_the_least_important_columns() {
        let column = |title: &str, rank, is_text| Column {
            title: title.to_owned(),
            rank,
            is_text,
        };
        let columns = vec![
            column("PID", 0, false),
            column("STATE", 2, false),
            column("QUERY", 1, true),
        ];
        let cells = ["4711", "idle in transaction", &"x".repeat(90)];
        let line = Line::plain(cells.map(str::to_owned).to_vec());
        let table = Table::of_columns(columns, vec![line]);
        let wide = table.render(&screen(Some(60)));
        assert!(wide.contains("4711  idle in transaction  xxx"), "{wide}");
        assert_eq!(table.left_out(&screen(Some(60))), [""; 0]);
        let narrow = table.render(&screen(Some(30)));
        assert!(narrow.contains("\n4711  xxx"), "{narrow}");
        assert_eq!(table.left_out(&screen(Some(30))), ["STATE"]);
    }
}
