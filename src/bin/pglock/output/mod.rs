//! Writes to the terminal: tables, JSON and safe text.

mod json;
mod screen;
mod table;
mod terminal_text;

pub use json::{show_json, show_json_line};
pub use screen::{Colour, Screen, ask, is_closed, note, print_error, show};
pub use table::{Column, Line, Table};
pub use terminal_text::{clean, clean_lines, clean_query, cut};
