use crate::output::{CELL, Colour, Screen};
use crate::terminal_text::{cut, width};

/// No column is made narrower than this.
const NARROWEST: usize = 8;

const GAP: &str = "  ";

/// Rows under titles, as wide as the terminal at most.
#[derive(Debug, Default)]
pub struct Table {
    pub titles: Vec<String>,
    /// Clean texts.
    pub rows: Vec<(Colour, Vec<String>)>,
}

impl Table {
    pub fn render(&self, screen: &Screen) -> String {
        let widths = self.widths(screen);
        let mut text = line(&self.titles, &widths, Colour::Bold, screen);
        for (colour, cells) in &self.rows {
            text += &line(cells, &widths, *colour, screen);
        }
        text
    }

    /// As wide as the widest cell, then the widest columns narrower until all fit.
    fn widths(&self, screen: &Screen) -> Vec<usize> {
        let rows = self.rows.iter().map(|(_, cells)| cells);
        let mut widths = vec![0; self.titles.len()];
        for cells in std::iter::once(&self.titles).chain(rows) {
            for (column, cell) in widths.iter_mut().zip(cells) {
                *column = width(cell).clamp(*column, CELL.max(*column));
            }
        }
        let gaps = GAP.len() * widths.len().saturating_sub(1);
        let Some(room) = screen.width.map(|width| width.saturating_sub(gaps)) else {
            return widths;
        };
        while widths.iter().sum::<usize>() > room {
            let over = widths.iter().sum::<usize>() - room;
            let Some(widest) = widths.iter_mut().max() else {
                break;
            };
            if *widest <= NARROWEST {
                break;
            }
            // By half at most, so that one column does not give way alone.
            *widest -= over.min(*widest - NARROWEST).min(widest.div_ceil(4));
        }
        widths
    }
}

fn line(cells: &[String], widths: &[usize], colour: Colour, screen: &Screen) -> String {
    let mut text = String::new();
    for (i, (cell, column)) in cells.iter().zip(widths).enumerate() {
        let cell = cut(cell, *column);
        let gap = if i == 0 { "" } else { GAP };
        let fill = " ".repeat(column - width(&cell));
        text += &format!("{gap}{cell}{fill}");
    }
    let text = text.trim_end();
    // On a terminal too narrow for the narrowest columns.
    let text = screen
        .width
        .map_or(text.to_owned(), |width| cut(text, width));
    screen.paint(colour, &text) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(cells: &[&str]) -> Table {
        Table {
            titles: cells.iter().map(|_| "TITLE".to_owned()).collect(),
            rows: vec![(
                Colour::Plain,
                cells.iter().map(|it| (*it).to_owned()).collect(),
            )],
        }
    }

    fn screen(width: Option<usize>) -> Screen {
        Screen {
            width,
            colour: false,
        }
    }

    #[test]
    fn a_table_fits_every_terminal() {
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
    fn what_is_short_is_kept_whole() {
        let text = table(&["4711", &"x".repeat(300)]).render(&screen(Some(40)));
        assert!(text.contains("\n4711   xxx"), "{text}");
        assert!(text.ends_with("xxx…\n"), "{text}");
    }

    #[test]
    fn a_file_gets_long_cells_but_not_endless_ones() {
        let text = table(&[&"x".repeat(70_000), "y"]).render(&screen(None));
        assert!(text.lines().all(|line| width(line) < 250), "{}", text.len());
    }
}
