//! What a step tells the meter that cannot hold it: the first token may have to be waited for in the body of
//! the answer, around which the meter stands.

use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderName, HeaderValue};
use inferyard_proto::worker::v1::{Admitted, Usage};

use super::Meter;
use crate::reserve::Need;
use crate::stream::Outstanding;

/// What was told and not read yet.
#[derive(Clone, Default)]
pub(crate) struct Notes(Arc<Mutex<Vec<Note>>>);

/// What is told.
pub(crate) enum Note {
    /// A header of the answer, if its head has not left.
    Header(HeaderName, HeaderValue),
    /// A worker is asked, in this life of it; what another one did is void.
    Tries(u64, Outstanding),
    /// The reservation has changed to this need.
    Granted(Need),
    /// The worker has counted the prompt.
    Admitted(Admitted),
    /// The first token is there.
    Begins,
    /// Nothing came of it, and this was used.
    Used(Usage),
}

// === impl Notes ===

impl Notes {
    pub(crate) fn write(&self, note: Note) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        notes.push(note);
    }
}

// === impl Meter ===

impl Meter {
    /// Takes note of all that was told, in order.
    pub(crate) fn read(&mut self, notes: &Notes) {
        let mut notes = notes.0.lock().unwrap_or_else(PoisonError::into_inner);
        for note in notes.drain(..) {
            match note {
                Note::Header(name, value) => self.tell(name, value),
                Note::Tries(boot_id, outstanding) => self.tries(boot_id, outstanding),
                Note::Granted(need) => self.granted(need),
                Note::Admitted(admitted) => self.admitted(admitted),
                Note::Begins => self.begins(),
                Note::Used(usage) => self.used(Some(usage)),
            }
        }
    }
}
