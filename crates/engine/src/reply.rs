//! The way of one request's events from the engine to its reader: bounded, and never in the
//! engine's way.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::Stream;

use crate::event::Event;

/// Events that wait for a reader before its request is parked.
const CAPACITY: usize = 64;

/// The engine's end.
pub struct Reply {
    events: mpsc::Sender<Event>,
    // A reader that is behind by all its events must still be told how it ended.
    last: mpsc::OwnedPermit<Event>,
    unsent: VecDeque<Event>,
    parked_since: Option<Instant>,
    flags: Arc<Flags>,
}

/// The reader's end; dropping it ends the request.
pub struct Events {
    receiver: mpsc::Receiver<Event>,
    flags: Arc<Flags>,
    engine: Arc<dyn Reader>,
}

/// Ends a request whose reader stays to hear how it ended.
pub struct Cancel {
    flags: Arc<Flags>,
    engine: Arc<dyn Reader>,
}

/// What both ends see at once.
#[derive(Default)]
struct Flags {
    parked: AtomicBool,
    cancelled: AtomicBool,
}

/// What the engine hears from a reader.
pub trait Reader: Send + Sync {
    /// There is room again in a channel that was full, or the request was cancelled.
    fn caught_up(&self);
    /// The reader is gone.
    fn left(&self);
}

impl Reply {
    /// Both ends of a new channel; the engine hears of its reader through `engine`.
    pub fn channel(engine: Arc<dyn Reader>) -> (Self, Events) {
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
            parked_since: None,
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

    /// Sends, or keeps and parks the request until the reader has made room.
    pub fn send(&mut self, event: Event) {
        self.unsent.push_back(event);
        if self.parked_since.is_none() {
            self.flush();
        }
    }

    /// Sends what is kept, as far as there is room.
    pub fn flush(&mut self) {
        while let Some(event) = self.unsent.pop_front() {
            match self.events.try_send(event) {
                Ok(()) => self.parked_since = None,
                Err(mpsc::error::TrySendError::Closed(_)) => self.unsent.clear(),
                Err(mpsc::error::TrySendError::Full(event)) => {
                    self.unsent.push_front(event);
                    self.flags.parked.store(true, Ordering::SeqCst);
                    // The reader may have made room before it could see the flag.
                    if self.events.capacity() == 0 {
                        self.parked_since.get_or_insert_with(Instant::now);
                        return;
                    }
                }
            }
        }
        self.parked_since = None;
    }

    /// Since when the reader has taken nothing from its full channel.
    #[must_use]
    pub fn parked_since(&self) -> Option<Instant> {
        self.parked_since
    }

    /// Nobody reads any longer.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.events.is_closed()
    }

    /// It is to end, and its reader waits to hear how.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.flags.cancelled.load(Ordering::Relaxed)
    }

    /// Sends the last event; what is still kept is dropped.
    pub fn end(self, event: Event) {
        self.last.send(event);
    }
}

impl Events {
    /// What ends the request from elsewhere.
    #[must_use]
    pub fn cancel(&self) -> Cancel {
        Cancel {
            flags: Arc::clone(&self.flags),
            engine: Arc::clone(&self.engine),
        }
    }
}

impl Cancel {
    /// Ends the request as soon as the engine can; nothing, where it has ended.
    pub fn cancel(&self) {
        self.flags.cancelled.store(true, Ordering::Relaxed);
        // The lock that this takes makes the flag seen.
        self.engine.caught_up();
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let event = self.receiver.poll_recv(cx);
        if event.is_ready() && self.flags.parked.swap(false, Ordering::SeqCst) {
            self.engine.caught_up();
        }
        event
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.receiver.close();
        self.engine.left();
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

    impl Reader for Heard {
        fn caught_up(&self) {
            self.0.lock().unwrap().push("caught up");
        }

        fn left(&self) {
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
    async fn a_reader_that_is_behind_is_parked_until_it_has_made_room() {
        let heard = Heard::default();
        let (mut reply, mut events) = Reply::channel(Arc::new(heard.clone()));
        for index in 0..CAPACITY {
            reply.send(delta(index));
        }
        assert!(reply.parked_since().is_none());
        reply.send(delta(CAPACITY));
        reply.send(delta(CAPACITY + 1));
        assert!(reply.parked_since().is_some());
        assert_eq!(choice(events.next().await), 0);
        assert_eq!(heard.take(), ["caught up"]);
        reply.flush();
        assert!(
            reply.parked_since().is_some(),
            "one event has found room, the other has not"
        );
        for index in 1..=CAPACITY {
            assert_eq!(choice(events.next().await), u32::try_from(index).unwrap());
        }
        assert_eq!(heard.take(), ["caught up"], "once is enough");
        reply.flush();
        assert!(reply.parked_since().is_none());
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
        assert!(reply.parked_since().is_none());
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
