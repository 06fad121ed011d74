//! What the compiler of grammars says, in words that a client can act on.
//!
//! Its own words name settings of the library, symbols of the grammar and limits in units of its own.

/// Why a shape is given up that compiles.
pub(super) const TOO_LARGE: &str = "it has too many alternatives";

/// What [`dead_end`](super::dead_end) says, which is already plain.
const PLAIN: [&str; 2] = ["it allows no value", "a part of it allows no value"];

/// What its errors begin with or contain, and what that means here.
const MEANINGS: [(&str, &str); 12] = [
    ("too big", "it is too large"),
    ("too large", "it is too large"),
    ("fuel", "it is too large"),
    ("precomputation failed", "it is too large"),
    ("stack level exceeded", "its parts are combined too often"),
    (
        "Unable to determine if regex",
        "a 'pattern' with these lengths is too complex",
    ),
    (
        "circular references",
        "a '$ref' that leads back to itself stands beside other keywords",
    ),
    ("Pointer '", "a '$ref' points to nothing"),
    ("Resource '", "a '$ref' points out of the schema"),
    ("too many digits", "a 'multipleOf' has too many digits"),
    (
        "are not disjoint",
        "a name can match two of its 'patternProperties'",
    ),
    (
        "are disjoint",
        "whether a name can match two of its 'patternProperties' cannot be told",
    ),
];

/// What is wrong with a schema that does not compile.
pub(super) fn of_schema(error: &str) -> String {
    // The first line is the latest context, the cause stands at the end.
    if let Some((_, reason)) = error.split_once("Unsatisfiable schema: ") {
        return format!("it allows no value: {}", of_unsatisfiable(reason));
    }
    if error.contains("Unsatisfiable") {
        return "it allows no value".to_owned();
    }
    if error == TOO_LARGE || PLAIN.contains(&error) {
        return error.to_owned();
    }
    let meaning = MEANINGS.iter().find(|(words, _)| error.contains(words));
    match meaning {
        Some((_, meaning)) => (*meaning).to_owned(),
        None if error.contains("regex parse error") => of_regex(error),
        None => "it uses keywords in a way that cannot be enforced".to_owned(),
    }
}

/// Why nothing meets a schema. Some of the library's words quote its own regular expressions, or name
/// keywords that the client may not have written.
fn of_unsatisfiable(reason: &str) -> String {
    if reason.contains("Regex is empty") {
        return "no text meets all of its limits".to_owned();
    }
    if reason.contains("anyOf") {
        return "none of its alternatives can be met".to_owned();
    }
    first_line(reason)
}

/// What is wrong with a regular expression.
pub(super) fn of_regex(error: &str) -> String {
    // The expression is shown first, indented, and the last line says what is wrong with it.
    let mut lines = error.lines();
    match lines.find_map(|line| line.trim_start().strip_prefix("error: ")) {
        Some(reason) => format!("regex parse error: {}", first_line(reason)),
        None => "this regular expression cannot be enforced".to_owned(),
    }
}

/// The compiler has no way for a `oneOf` whose alternatives may both hold.
pub(super) fn is_one_of(error: &str) -> bool {
    error.contains("oneOf constraints")
}

/// The compiler cannot count members that may be missing.
pub(super) fn is_bound_of_members(error: &str) -> bool {
    error.contains("min/maxProperties")
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().trim();
    line.trim_end_matches(['.', ':'])
        .chars()
        .take(200)
        .collect()
}
