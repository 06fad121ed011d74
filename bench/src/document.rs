//! Puts the tables into a page that people have written around them.

use std::path::Path;

use anyhow::{Context, Result};

const BEGIN: &str = "<!-- bench: begin -->\n";
const END: &str = "<!-- bench: end -->";

/// Replaces what stands between the two marks of a file.
pub(crate) fn update(path: &Path, tables: &str) -> Result<()> {
    let page =
        std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let page = with_tables(&page, tables)
        .with_context(|| format!("{} lacks `{BEGIN}` or `{END}`", path.display()))?;
    std::fs::write(path, page).with_context(|| format!("writing {}", path.display()))
}

fn with_tables(page: &str, tables: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{tables}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let page = format!("before {BEGIN}old{END} after");
        let new = with_tables(&page, "new").unwrap();
        assert_eq!(new, format!("before {BEGIN}\nnew\n{END} after"));
        assert_eq!(with_tables(&new, "new").unwrap(), new);
        assert_eq!(with_tables("no marks", "new"), None);
    }
}
