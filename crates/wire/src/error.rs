//! The error object of OpenAI's API.

use bytes::BytesMut;

use crate::json::{escape, quote};

/// The error object. All four keys are always written, absent ones as `null`.
#[derive(Debug, Clone, Copy)]
pub struct ErrorObject<'a> {
    /// A sentence for the caller.
    pub message: &'a str,
    /// Whether the server is at fault. The message then contains the request id, so that a report can be
    /// matched with the log.
    pub names_request: bool,
    /// OpenAI's `type`.
    pub kind: &'static str,
    /// Path of the field at fault, if there is one.
    pub param: Option<&'a str>,
    /// OpenAI's `code`, if there is one.
    pub code: Option<&'static str>,
}

// === impl ErrorObject ===

impl ErrorObject<'_> {
    /// Appends `{"error":{…}}`.
    pub fn write(&self, request_id: &str, out: &mut BytesMut) {
        out.extend_from_slice(b"{\"error\":{\"message\":\"");
        escape(self.message, out);
        if self.names_request {
            out.extend_from_slice(b" (request id: ");
            escape(request_id, out);
            out.extend_from_slice(b")");
        }
        out.extend_from_slice(b"\",\"type\":");
        quote(self.kind, out);
        for (key, value) in [(",\"param\":", self.param), (",\"code\":", self.code)] {
            out.extend_from_slice(key.as_bytes());
            match value {
                Some(value) => quote(value, out),
                None => out.extend_from_slice(b"null"),
            }
        }
        out.extend_from_slice(b"}}");
    }
}
