//! Server-sent events, cut anywhere, become the JSON texts in them.
//!
//! Every server writes an event's data as one line, so a line is an event; comments (keep-alives) and
//! other fields are skipped.

use memchr::memchr;

/// Longer than any chunk of an answer.
const MAX_LINE: usize = 8 << 20;

/// Takes bytes, gives lines.
#[derive(Default)]
pub(crate) struct Lines {
    // The start of a line whose end has not come.
    begun: Vec<u8>,
}

/// One event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// A chunk.
    Data(&'a [u8]),
    /// What went wrong: older llama.cpp has a field of its own for it.
    Error(&'a [u8]),
    /// `[DONE]`
    Done,
}

/// A line that never ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

// === impl Lines ===

impl Lines {
    /// Calls `each` for each event that is complete now.
    pub(crate) fn push<E: From<TooLong>>(
        &mut self,
        mut bytes: &[u8],
        mut each: impl FnMut(Line<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(end) = memchr(b'\n', bytes) {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            bytes = rest;
            if self.begun.is_empty() {
                read(line).map_or(Ok(()), &mut each)?;
            } else {
                self.begun.extend_from_slice(line);
                let read = read(&self.begun).map_or(Ok(()), &mut each);
                self.begun.clear();
                read?;
            }
        }
        if self.begun.len() + bytes.len() > MAX_LINE {
            return Err(TooLong.into());
        }
        self.begun.extend_from_slice(bytes);
        Ok(())
    }
}

fn read(line: &[u8]) -> Option<Line<'_>> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let value = |field: &[u8]| {
        let value = line.strip_prefix(field)?;
        Some(value.strip_prefix(b" ").unwrap_or(value))
    };
    let Some(data) = value(b"data:") else {
        return value(b"error:").map(Line::Error);
    };
    match data.trim_ascii() {
        b"" => None,
        b"[DONE]" => Some(Line::Done),
        _ => Some(Line::Data(data)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = ": keepalive 1/1\n\nevent: message\r\nid: 1\ndata: {\"a\":1}\r\n\r\ndata:{\"b\":2}\n\n\
                          data: \n\nerror: {\"c\":3}\n\ndata: [DONE] \n\n";

    fn lines(cuts: &[usize]) -> Vec<String> {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        let mut at = 0;
        for end in cuts.iter().copied().chain([STREAM.len()]) {
            let pushed: Result<(), TooLong> = lines.push(&STREAM.as_bytes()[at..end], |line| {
                found.push(match line {
                    Line::Data(data) => String::from_utf8(data.to_vec()).unwrap(),
                    Line::Error(data) => format!("error {}", str::from_utf8(data).unwrap()),
                    Line::Done => "done".to_owned(),
                });
                Ok(())
            });
            pushed.unwrap();
            at = end;
        }
        found
    }

    #[test]
    fn every_cut_gives_the_same_events() {
        let expected = ["{\"a\":1}", "{\"b\":2}", "error {\"c\":3}", "done"];
        assert_eq!(lines(&[]), expected);
        for first in 0..STREAM.len() {
            assert_eq!(lines(&[first]), expected);
            assert_eq!(lines(&[first, (first + 1).min(STREAM.len())]), expected);
        }
        assert_eq!(lines(&(0..STREAM.len()).collect::<Vec<_>>()), expected);
    }

    #[test]
    fn a_line_has_an_end() {
        let mut lines = Lines::default();
        let half = vec![b'x'; MAX_LINE / 2 + 1];
        assert_eq!(lines.push::<TooLong>(&half, |_| Ok(())), Ok(()));
        assert_eq!(lines.push::<TooLong>(&half, |_| Ok(())), Err(TooLong));
    }
}
