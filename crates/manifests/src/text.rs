//! Manifest files as text that is edited in place: the position and the content of each document.

use std::ops::Range;

use serde_json::Value;

use crate::yaml;

/// A document and its position in the text of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct TextDocument {
    /// The range of its bytes in the text, without the `---` lines around it.
    pub range: Range<usize>,
    /// Its content, without fields that are null.
    pub value: Value,
}

/// A text that is not YAML.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: not YAML: {message}")]
pub struct TextError {
    /// The line, from 1.
    pub line: u64,
    /// What is wrong there.
    pub message: String,
}

/// Finds the documents of a text, without empty ones.
///
/// # Errors
///
/// If the text is not YAML.
pub fn text_documents(text: &str) -> Result<Vec<TextDocument>, TextError> {
    let mut documents = Vec::new();
    let mut start = 0;
    let mut end = 0;
    for line in text.split_inclusive('\n') {
        // At the start of a line these markers always end a document, even within a block scalar.
        let marker = ["---", "..."].into_iter().any(|marker| {
            line.strip_prefix(marker)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
        });
        if marker {
            documents.extend(document(text, start..end)?);
            start = end + 3;
        }
        end += line.len();
    }
    documents.extend(document(text, start..end)?);
    Ok(documents)
}

fn document(text: &str, range: Range<usize>) -> Result<Option<TextDocument>, TextError> {
    let nodes = yaml::documents(&text[range.clone()]).map_err(|error| {
        let before = text[..range.start].matches('\n').count();
        TextError {
            line: error.line + u64::try_from(before).unwrap_or(0),
            message: error.message,
        }
    })?;
    let mut nodes = nodes.into_iter();
    Ok(nodes.next().map(|node| TextDocument {
        range,
        value: node.to_json(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_found_with_their_places() {
        let text = "# head\na: 1\n---\n---  # nothing\n\nb: |\n  --- no end\n---\nc: ~\nd: [2]\n";
        let documents = text_documents(text).unwrap();
        let found: Vec<_> = documents
            .iter()
            .map(|document| (&text[document.range.clone()], document.value.to_string()))
            .collect();
        let expected = [
            ("# head\na: 1\n", r#"{"a":1}"#),
            (
                "  # nothing\n\nb: |\n  --- no end\n",
                r#"{"b":"--- no end\n"}"#,
            ),
            ("\nc: ~\nd: [2]\n", r#"{"d":[2]}"#),
        ];
        let expected = expected.map(|(text, json)| (text, json.to_owned()));
        assert_eq!(found, expected);
        assert_eq!(text_documents("").unwrap(), []);
    }

    #[test]
    fn what_is_no_yaml_is_told_with_its_line() {
        let error = text_documents("a: 1\n---\nb: 2\nc: [\n").unwrap_err();
        assert!((4..=5).contains(&error.line), "{error}");
    }
}
