//! Statements that insert many rows.

use crate::store::Placeholders;

/// Rows of one statement. Few sizes, so that few statements are prepared.
const ROWS: [usize; 5] = [256, 64, 16, 4, 1];

/// `INSERT INTO table (a, b) VALUES ($1, $2), ($3, $4) …`
pub(super) fn insert(
    placeholders: Placeholders,
    table: &str,
    columns: &[&str],
    rows: usize,
    conflict: &str,
) -> String {
    let tuple = |row: usize| {
        let first = row * columns.len() + 1;
        let marks: Vec<String> = (first..first + columns.len())
            .map(|number| match placeholders {
                Placeholders::Numbered => format!("${number}"),
                Placeholders::Positional => "?".to_owned(),
            })
            .collect();
        format!("({})", marks.join(", "))
    };
    let values: Vec<String> = (0..rows).map(tuple).collect();
    format!(
        "INSERT INTO {table} ({}) VALUES {} {conflict}",
        columns.join(", "),
        values.join(", ")
    )
}

/// Cuts rows into pieces of [`ROWS`].
pub(super) fn in_sizes<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = ROWS.into_iter().find(|size| *size <= rows.len())?;
        let (piece, rest) = rows.split_at(size);
        rows = rest;
        Some(piece)
    })
}
