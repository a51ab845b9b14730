//! The page of the documentation that shows the last full run.

use std::fs;
use std::path::Path;

use crate::Result;
use crate::report::Report;

const START: &str = "<!-- the figures start: `cargo xtask bench --update` writes them -->";
const END: &str = "<!-- the figures end -->";

/// Writes a report between the marks of `docs/performance.md`.
pub fn update(report: &Report) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/performance.md");
    let page = fs::read_to_string(&path)?;
    let page = replace(&page, &report.to_string()).ok_or("docs/performance.md lacks the marks")?;
    Ok(fs::write(path, page)?)
}

/// Replaces the text between the marks; `None` without both.
fn replace(page: &str, text: &str) -> Option<String> {
    let (before, rest) = page.split_once(START)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!(
        "{before}{START}\n\n{}\n\n{END}{after}",
        text.trim()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_text_between_the_marks_is_replaced() {
        let page = format!("# Page\n{START}\n\nold\n\n{END}\nfoot\n");
        let page = replace(&page, "new\n").unwrap();
        assert_eq!(page, format!("# Page\n{START}\n\nnew\n\n{END}\nfoot\n"));
        assert_eq!(replace("# Page\n", "new"), None);
    }

    #[test]
    fn the_page_has_the_marks() {
        assert!(replace(include_str!("../../docs/performance.md"), "").is_some());
    }
}
