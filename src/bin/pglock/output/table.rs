//! Tables as wide as the terminal.

use super::screen::{Colour, MAX_CELL, Screen};
use super::terminal_text::{cut, width};

/// The width to which columns shrink, at least.
const MIN_WIDTH: usize = 8;

const GAP: &str = "  ";

/// Lines under titles, cut to the width of the terminal.
#[derive(Debug)]
pub struct Table {
    titles: Line,
    lines: Vec<Line>,
}

/// A line of a table; its cells are clean texts.
#[derive(Debug)]
pub struct Line {
    pub colour: Colour,
    pub cells: Vec<String>,
}

impl Table {
    pub fn new(titles: impl IntoIterator<Item = impl Into<String>>, lines: Vec<Line>) -> Self {
        let titles = Line {
            colour: Colour::Bold,
            cells: titles.into_iter().map(Into::into).collect(),
        };
        Self { titles, lines }
    }

    pub fn render(&self, screen: &Screen) -> String {
        let widths = self.widths(screen);
        let lines = self.lines().map(|line| line.render(&widths, screen));
        lines.collect()
    }

    fn lines(&self) -> impl Iterator<Item = &Line> {
        std::iter::once(&self.titles).chain(&self.lines)
    }

    /// Returns the width of each column; the widest become narrower until all fit.
    fn widths(&self, screen: &Screen) -> Vec<usize> {
        let mut widths = self.natural_widths();
        let gaps = GAP.len() * widths.len().saturating_sub(1);
        if let Some(width) = screen.width {
            shrink(&mut widths, width.saturating_sub(gaps));
        }
        widths
    }

    fn natural_widths(&self) -> Vec<usize> {
        let mut widths = vec![0; self.titles.cells.len()];
        for line in self.lines() {
            for (column, cell) in widths.iter_mut().zip(&line.cells) {
                *column = width(cell).min(MAX_CELL).max(*column);
            }
        }
        widths
    }
}

fn shrink(widths: &mut [usize], room: usize) {
    loop {
        let excess = widths.iter().sum::<usize>().saturating_sub(room);
        let Some(widest) = widths.iter_mut().max() else {
            return;
        };
        if excess == 0 || *widest <= MIN_WIDTH {
            return;
        }
        // A quarter at a time, so that the widest columns shrink together.
        *widest -= excess.min(*widest - MIN_WIDTH).min(widest.div_ceil(4));
    }
}

impl Line {
    pub fn plain(cells: Vec<String>) -> Self {
        let colour = Colour::Plain;
        Self { colour, cells }
    }

    fn render(&self, widths: &[usize], screen: &Screen) -> String {
        let mut text = String::new();
        for (cell, column) in self.cells.iter().zip(widths) {
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
}
