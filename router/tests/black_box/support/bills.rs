//! The usage events of a router, as the ledger receives them.

use inferyard_proto::outbox::Entry;
use inferyard_proto::usage::v1::UsageEvent;
use prost::Message as _;
use tokio::sync::mpsc;

use super::within;

/// The usage events of a router.
pub(crate) struct Bills(mpsc::Receiver<Entry>);

impl Bills {
    /// The outbox for a router, and its receiving end.
    pub(crate) fn channel() -> (mpsc::Sender<Entry>, Self) {
        let (sender, receiver) = mpsc::channel(1_024);
        (sender, Self(receiver))
    }

    /// The next event.
    pub(crate) async fn next(&mut self) -> UsageEvent {
        let entry = within(self.0.recv()).await.expect("a usage event");
        assert_eq!((entry.part, entry.billed.len()), (0, 0));
        UsageEvent::decode(entry.event).expect("a usage event should be one")
    }

    /// Whether there are no further events.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The remaining events of a router that has stopped.
    pub(crate) async fn rest(mut self) -> Vec<UsageEvent> {
        let mut events = Vec::new();
        while let Some(entry) = within(self.0.recv()).await {
            events.push(UsageEvent::decode(entry.event).expect("a usage event should be one"));
        }
        events
    }
}
