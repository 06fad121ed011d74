//! Writes tables into a hand-written page.

use std::path::Path;

use anyhow::{Context, Result};

/// Replaces the text between the two marks of this name in a file.
pub(crate) fn update(path: &Path, mark: &str, tables: &str) -> Result<()> {
    let page =
        std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let page = with_tables(&page, mark, tables)
        .with_context(|| format!("{} lacks the marks of `{mark}`", path.display()))?;
    std::fs::write(path, page).with_context(|| format!("writing {}", path.display()))
}

fn with_tables(page: &str, mark: &str, tables: &str) -> Option<String> {
    let (begin, end) = (
        format!("<!-- {mark}: begin -->\n"),
        format!("<!-- {mark}: end -->"),
    );
    let (before, rest) = page.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n{tables}\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let page = |table| format!("before <!-- m: begin -->\n{table}<!-- m: end --> after");
        let new = with_tables(&page("old"), "m", "new").unwrap();
        assert_eq!(new, page("\nnew\n"));
        assert_eq!(with_tables(&new, "m", "new").unwrap(), new);
        assert_eq!(with_tables(&new, "other", "new"), None);
    }
}
