//! The channel of one request's events from the engine to the client: bounded, and it never blocks the engine.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::Stream;

use crate::event::Event;

/// Events that wait for a client before its request is paused.
const CAPACITY: usize = 64;

/// The sending end, which the engine has.
pub struct Reply {
    events: mpsc::Sender<Event>,
    // Capacity for the last event: a client whose channel is full must still be told how the request ended.
    last: mpsc::OwnedPermit<Event>,
    unsent: VecDeque<Event>,
    paused_since: Option<Instant>,
    flags: Arc<Flags>,
}

/// The receiving end; dropping it ends the request.
pub struct Events {
    receiver: mpsc::Receiver<Event>,
    flags: Arc<Flags>,
    engine: Arc<dyn ReaderEvents>,
}

/// Ends a request while its client goes on reading, up to the last event.
pub struct Cancel {
    flags: Arc<Flags>,
    engine: Arc<dyn ReaderEvents>,
}

/// What both ends read and write without a lock.
#[derive(Default)]
struct Flags {
    paused: AtomicBool,
    cancelled: AtomicBool,
}

/// What the receiving end tells the engine; implemented by the engine.
pub trait ReaderEvents: Send + Sync {
    /// A channel that was full has room again, or the request was cancelled.
    fn drained(&self);
    /// The receiving end was dropped.
    fn disconnected(&self);
}

impl Reply {
    /// Both ends of a new channel; the receiving end reports to `engine`.
    pub fn channel(engine: Arc<dyn ReaderEvents>) -> (Self, Events) {
        let (sender, receiver) = mpsc::channel(CAPACITY + 1);
        let last = sender
            .clone()
            .try_reserve_owned()
            .expect("a new channel should have room");
        let flags = Arc::new(Flags::default());
        let reply = Self {
            events: sender,
            last,
            unsent: VecDeque::new(),
            paused_since: None,
            flags: Arc::clone(&flags),
        };
        (
            reply,
            Events {
                receiver,
                flags,
                engine,
            },
        )
    }

    /// Sends an event. If the channel is full, the event is kept and the request is paused until the client has read.
    pub fn send(&mut self, event: Event) {
        self.unsent.push_back(event);
        if self.paused_since.is_none() {
            self.flush();
        }
    }

    /// Sends the events that were kept, as far as the channel has room.
    pub fn flush(&mut self) {
        while let Some(event) = self.unsent.pop_front() {
            match self.events.try_send(event) {
                Ok(()) => self.paused_since = None,
                Err(mpsc::error::TrySendError::Closed(_)) => self.unsent.clear(),
                Err(mpsc::error::TrySendError::Full(event)) => {
                    self.unsent.push_front(event);
                    self.flags.paused.store(true, Ordering::SeqCst);
                    // The client may have read an event before the flag was set: then it reports nothing, and this loop
                    // goes on. SeqCst on both sides makes one of the two see the other.
                    if self.events.capacity() == 0 {
                        self.paused_since.get_or_insert_with(Instant::now);
                        return;
                    }
                }
            }
        }
        self.paused_since = None;
    }

    /// Since when the channel has been full.
    #[must_use]
    pub fn paused_since(&self) -> Option<Instant> {
        self.paused_since
    }

    /// Whether the receiving end was dropped.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.events.is_closed()
    }

    /// Whether the request is to end while its client goes on reading.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.flags.cancelled.load(Ordering::Relaxed)
    }

    /// Sends the last event; events that are still kept are dropped.
    pub fn end(self, event: Event) {
        self.last.send(event);
    }
}

impl Events {
    /// A handle that ends the request from elsewhere.
    #[must_use]
    pub fn cancel(&self) -> Cancel {
        Cancel {
            flags: Arc::clone(&self.flags),
            engine: Arc::clone(&self.engine),
        }
    }
}

impl Cancel {
    /// Ends the request as soon as the engine can. Has no effect on a request that has ended.
    pub fn cancel(&self) {
        self.flags.cancelled.store(true, Ordering::Relaxed);
        // Relaxed is enough: this takes the lock of the queue, and the engine takes it before it reads the flag.
        self.engine.drained();
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let event = self.receiver.poll_recv(cx);
        if event.is_ready() && self.flags.paused.swap(false, Ordering::SeqCst) {
            self.engine.drained();
        }
        event
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.receiver.close();
        self.engine.disconnected();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio_stream::StreamExt;

    use super::*;
    use crate::event::{Delta, Usage};

    /// Writes down what the engine hears.
    #[derive(Clone, Default)]
    struct Heard(Arc<Mutex<Vec<&'static str>>>);

    impl ReaderEvents for Heard {
        fn drained(&self) {
            self.0.lock().unwrap().push("caught up");
        }

        fn disconnected(&self) {
            self.0.lock().unwrap().push("left");
        }
    }

    impl Heard {
        fn take(&self) -> Vec<&'static str> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    fn delta(choice: usize) -> Event {
        Event::Delta(Delta {
            choice: u32::try_from(choice).unwrap(),
            ..Delta::default()
        })
    }

    fn choice(event: Option<Event>) -> u32 {
        match event {
            Some(Event::Delta(delta)) => delta.choice,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_request_whose_client_is_behind_is_paused_until_it_has_read() {
        let heard = Heard::default();
        let (mut reply, mut events) = Reply::channel(Arc::new(heard.clone()));
        for index in 0..CAPACITY {
            reply.send(delta(index));
        }
        assert!(reply.paused_since().is_none());
        reply.send(delta(CAPACITY));
        reply.send(delta(CAPACITY + 1));
        assert!(reply.paused_since().is_some());
        assert_eq!(choice(events.next().await), 0);
        assert_eq!(heard.take(), ["caught up"]);
        reply.flush();
        assert!(
            reply.paused_since().is_some(),
            "one event has found room, the other has not"
        );
        for index in 1..=CAPACITY {
            assert_eq!(choice(events.next().await), u32::try_from(index).unwrap());
        }
        assert_eq!(heard.take(), ["caught up"], "once is enough");
        reply.flush();
        assert!(reply.paused_since().is_none());
    }

    #[tokio::test]
    async fn the_end_always_has_room() {
        let (mut reply, events) = Reply::channel(Arc::new(Heard::default()));
        for index in 0..2 * CAPACITY {
            reply.send(delta(index));
        }
        reply.end(Event::Finished(Usage::default()));
        let all: Vec<Event> = events.collect().await;
        assert_eq!(all.len(), CAPACITY + 1);
        assert!(matches!(all.last(), Some(Event::Finished(_))));
    }

    #[tokio::test]
    async fn the_engine_hears_that_a_reader_has_left() {
        let heard = Heard::default();
        let (mut reply, events) = Reply::channel(Arc::new(heard.clone()));
        assert!(!reply.is_abandoned());
        drop(events);
        assert_eq!(heard.take(), ["left"]);
        assert!(reply.is_abandoned());
        reply.send(delta(0));
        assert!(reply.paused_since().is_none());
    }

    #[tokio::test]
    async fn a_request_that_is_cancelled_says_how_it_ended() {
        let heard = Heard::default();
        let (reply, events) = Reply::channel(Arc::new(heard.clone()));
        assert!(!reply.is_cancelled());
        events.cancel().cancel();
        assert_eq!(heard.take(), ["caught up"]);
        assert!(reply.is_cancelled() && !reply.is_abandoned());
        reply.end(Event::Finished(Usage::default()));
        assert_eq!(events.collect::<Vec<_>>().await.len(), 1);
    }
}
