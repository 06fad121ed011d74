//! Suggestions for misspelled names.

/// Longer names are not compared: people do not type them.
const MAX_CHARACTERS: usize = 128;

/// The known name that is most similar to `written`, if one is similar enough to be a misspelling.
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

/// The letters and digits of a name in lower case, so that `requests_per_minute` equals `requestsPerMinute`.
fn folded(name: &str) -> Vec<char> {
    name.chars()
        .filter(|character| character.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect()
}

/// The distance between two names. An abbreviation has the distance 1.
fn slips(written: &[char], name: &[char]) -> usize {
    const SHORTEST: usize = 3;
    if written.len() >= SHORTEST && written.len() < name.len() && name.starts_with(written) {
        return 1;
    }
    distance(written, name)
}

/// The Levenshtein distance: the number of characters to insert, remove or replace.
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
