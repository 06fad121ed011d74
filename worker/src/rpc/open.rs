//! The open requests by the id that their router gave them, so that they can be cancelled.

use std::collections::HashMap;
use std::sync::Arc;

use inferyard_engine::reply::Cancel;
use parking_lot::{Mutex, MutexGuard};

/// The requests that can be cancelled.
#[derive(Default)]
pub(crate) struct Open {
    requests: Mutex<HashMap<Arc<str>, Arc<Cancel>>>,
}

/// Keeps a request cancellable until it is dropped.
pub(super) struct Entry {
    open: Arc<Open>,
    id: Arc<str>,
    cancel: Arc<Cancel>,
}

// === impl Open ===

impl Open {
    /// Adds a request. One without an id cannot be cancelled; of two with the same id, the later one can.
    pub(super) fn enter(self: &Arc<Self>, id: String, cancel: Cancel) -> Option<Entry> {
        if id.is_empty() {
            return None;
        }
        let (id, cancel) = (Arc::<str>::from(id), Arc::new(cancel));
        self.lock().insert(Arc::clone(&id), Arc::clone(&cancel));
        Some(Entry {
            open: Arc::clone(self),
            id,
            cancel,
        })
    }

    /// Cancels a request. Returns false if no open request has this id.
    pub(super) fn cancel(&self, id: &str) -> bool {
        let cancel = self.lock().get(id).cloned();
        // Called without the lock, because it takes the lock of the queue.
        cancel.inspect(|cancel| cancel.cancel()).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Cancel>>> {
        self.requests.lock()
    }
}

// === impl Entry ===

impl Drop for Entry {
    fn drop(&mut self) {
        let mut requests = self.open.lock();
        let is_this = |other: &Arc<Cancel>| Arc::ptr_eq(other, &self.cancel);
        if requests.get(&self.id).is_some_and(is_this) {
            requests.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use inferyard_engine::reply::{ReaderEvents, Reply};

    struct Deaf;

    impl ReaderEvents for Deaf {
        fn drained(&self) {}
        fn disconnected(&self) {}
    }

    fn request() -> (Reply, Cancel) {
        let (reply, events) = Reply::channel(Arc::new(Deaf));
        let cancel = events.cancel();
        (reply, cancel)
    }

    #[test]
    fn a_request_can_be_cancelled_while_it_is_here() {
        let open = Arc::new(Open::default());
        let (reply, cancel) = request();
        let entry = open.enter("req_1".to_owned(), cancel).unwrap();
        assert!(!open.cancel("req_2"));
        assert!(!reply.is_cancelled());
        assert!(open.cancel("req_1"));
        assert!(reply.is_cancelled());
        drop(entry);
        assert!(!open.cancel("req_1"));
    }

    #[test]
    fn nobody_is_cancelled_by_the_empty_id() {
        let open = Arc::new(Open::default());
        assert!(open.enter(String::new(), request().1).is_none());
        assert!(!open.cancel(""));
    }

    #[test]
    fn of_two_with_one_id_the_later_one_stays() {
        let open = Arc::new(Open::default());
        let ((first, cancel_first), (second, cancel_second)) = (request(), request());
        let one = open.enter("req_1".to_owned(), cancel_first);
        let _two = open.enter("req_1".to_owned(), cancel_second);
        drop(one);
        assert!(open.cancel("req_1"));
        assert!(!first.is_cancelled());
        assert!(second.is_cancelled());
    }
}
