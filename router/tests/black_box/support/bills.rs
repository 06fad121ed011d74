//! The usage events of a router, as the ledger would get them.

use inferyard_proto::outbox::Entry;
use inferyard_proto::usage::v1::UsageEvent;
use prost::Message as _;
use tokio::sync::mpsc;

use super::within;

/// What a router bills.
pub(crate) struct Bills(mpsc::Receiver<Entry>);

impl Bills {
    /// A router's outbox, and what comes out of it.
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

    /// Whether nothing was billed since.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a router that has ended still billed.
    pub(crate) async fn rest(mut self) -> Vec<UsageEvent> {
        let mut events = Vec::new();
        while let Some(entry) = within(self.0.recv()).await {
            events.push(UsageEvent::decode(entry.event).expect("a usage event should be one"));
        }
        events
    }
}
