//! A prompt that is being rendered, with a limit on its bytes and a check whether its client still waits.

use std::io::{self, ErrorKind, Write};

use super::TemplateError;

/// Bytes between two checks whether the client still waits.
const CHECK_EVERY: usize = 16 * 1024;

/// A text with a limit on its bytes.
pub(super) struct Limited<'a> {
    text: Vec<u8>,
    most: usize,
    go_on: &'a dyn Fn() -> bool,
    next_check: usize,
    is_stopped: bool,
}

// === impl Limited ===

impl<'a> Limited<'a> {
    /// Takes up to `most` bytes while `go_on` returns true.
    pub(super) fn new(most: usize, go_on: &'a dyn Fn() -> bool) -> Self {
        Self {
            text: Vec::new(),
            most,
            go_on,
            next_check: CHECK_EVERY,
            is_stopped: false,
        }
    }

    /// The text.
    ///
    /// # Errors
    ///
    /// The text was too long, was stopped, or the template failed.
    pub(super) fn finish(
        self,
        rendered: Result<(), minijinja::Error>,
    ) -> Result<String, TemplateError> {
        if self.is_stopped {
            return Err(TemplateError::Stopped);
        }
        if self.text.len() > self.most {
            let bytes = self.text.len();
            return Err(TemplateError::TooLong { bytes });
        }
        rendered.map_err(|error| TemplateError::of_render(&error))?;
        Ok(String::from_utf8(self.text).expect("a template should write UTF-8"))
    }
}

impl Write for Limited<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        if self.text.len() > self.most {
            return Err(ErrorKind::FileTooLarge.into());
        }
        if self.text.len() >= self.next_check {
            self.next_check = self.text.len() + CHECK_EVERY;
            if !(self.go_on)() {
                self.is_stopped = true;
                return Err(ErrorKind::Other.into());
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
