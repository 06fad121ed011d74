//! The name that was probably meant.

/// Names longer than this are not compared: nobody mistypes them by hand.
const MAX_CHARACTERS: usize = 128;

/// Of the known names, the one that `written` is a slip of, if there is one.
#[must_use]
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = folded(written);
    if written.is_empty() || written.len() > MAX_CHARACTERS {
        return None;
    }
    let allowed = written.len().div_ceil(3).min(4);
    known
        .into_iter()
        .map(|name| (slips(&written, &folded(name)), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Without what differs between ways of writing one name: `requests_per_minute` is
/// `requestsPerMinute`.
fn folded(name: &str) -> Vec<char> {
    name.chars()
        .filter(|character| character.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect()
}

/// How far apart two names are. Cutting a name short is one slip.
fn slips(written: &[char], name: &[char]) -> usize {
    const SHORTEST: usize = 3;
    if written.len() >= SHORTEST && written.len() < name.len() && name.starts_with(written) {
        return 1;
    }
    distance(written, name)
}

/// Characters to insert, leave out or change (Levenshtein).
fn distance(from: &[char], to: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, own) in from.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, other) in to.iter().enumerate() {
            let changed = diagonal + usize::from(own != other);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_names_are_not() {
        let known = [
            "requestsPerDay",
            "requestsPerMinute",
            "tokensPerDay",
            "tokensPerMinute",
            "price",
        ];
        for (written, expected) in [
            ("requestPerMinute", Some("requestsPerMinute")),
            ("requests_per_minute", Some("requestsPerMinute")),
            ("requestsPerMin", Some("requestsPerMinute")),
            ("tokenPerMinute", Some("tokensPerMinute")),
            ("tokensPerMin", Some("tokensPerMinute")),
            ("prise", Some("price")),
            ("pric", Some("price")),
            ("Price", Some("price")),
            ("rate", None),
            ("", None),
            ("--", None),
            ("x", None),
        ] {
            assert_eq!(nearest(written, known), expected, "{written}");
        }
        assert_eq!(nearest(&"p".repeat(100_000), known), None);
    }
}
