//! Refuses requests that crashed engines, for a while, so that their retries do not crash a whole fleet.
//!
//! A request is identified by a keyed hash of its account and prompt: no content is kept.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use inferyard_domain::Account;
use inferyard_proto::worker::v1::generate_request::Prompt;
use inferyard_proto::worker::v1::response_format::Format;
use inferyard_proto::worker::v1::text_prompt::Content;
use inferyard_proto::worker::v1::{GenerateRequest, ResponseFormat};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;
use twox_hash::XxHash3_64;

use inferyard_proto::prefix::BLOCK as PREFIX_BLOCK;

/// Longest time between two crashes that count as caused by the request.
const WINDOW: Duration = Duration::from_mins(10);
/// How long a request is refused after its second crash.
const REFUSED_FOR: Duration = Duration::from_mins(5);
/// Requests remembered at most (about 100 bytes each); the oldest is dropped first.
const MOST_SUSPECTS: usize = 4_096;

/// The requests of this router that crashed an engine.
#[derive(Debug)]
pub struct Quarantine {
    /// Random per process: a caller can neither construct two prompts with one hash nor test a guessed prompt.
    key: u64,
    /// Number of entries, so that the lock is taken only if there are any. Relaxed is enough: a stale value at worst
    /// admits a request that was quarantined a moment ago.
    count: AtomicUsize,
    suspects: Mutex<HashMap<u64, Crash>>,
}

/// The request has crashed two engines, and is refused for a while.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the request ends engines")]
pub struct CrashesEngine;

/// Identifies a request, in case it crashes an engine.
#[derive(Debug, Clone)]
pub struct Suspect {
    quarantine: Arc<Quarantine>,
    hash: u64,
}

#[derive(Debug, Clone, Copy)]
struct Crash {
    at: Instant,
    refused_until: Option<Instant>,
}

// === impl Quarantine ===

impl Default for Quarantine {
    /// An empty quarantine.
    fn default() -> Self {
        Self {
            key: getrandom::u64().expect("the system should have random numbers"),
            count: AtomicUsize::new(0),
            suspects: Mutex::default(),
        }
    }
}

impl Quarantine {
    /// Admits a request, unless it crashed two engines recently.
    ///
    /// # Errors
    ///
    /// [`CrashesEngine`] while the request is refused.
    pub fn admit(
        self: &Arc<Self>,
        account: &Account,
        request: &GenerateRequest,
    ) -> Result<Suspect, CrashesEngine> {
        let suspect = Suspect {
            quarantine: Arc::clone(self),
            hash: hash(self.key, account, request),
        };
        if self.count.load(Ordering::Relaxed) > 0 {
            let crash = self.lock().get(&suspect.hash).copied();
            let until = crash.and_then(|crash| crash.refused_until);
            if until.is_some_and(|until| Instant::now() < until) {
                return Err(CrashesEngine);
            }
        }
        Ok(suspect)
    }

    fn crashed(&self, hash: u64, now: Instant) -> bool {
        let mut suspects = self.lock();
        let before = suspects.get(&hash);
        let again = before.is_some_and(|before| now - before.at < WINDOW);
        if before.is_none() && suspects.len() >= MOST_SUSPECTS {
            let oldest = suspects.iter().min_by_key(|(_, crash)| crash.at);
            if let Some(oldest) = oldest.map(|(hash, _)| *hash) {
                suspects.remove(&oldest);
            }
        }
        let refused_until = again.then(|| now + REFUSED_FOR);
        let crash = Crash {
            at: now,
            refused_until,
        };
        suspects.insert(hash, crash);
        self.count.store(suspects.len(), Ordering::Relaxed);
        again
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Crash>> {
        // Each change is one insertion or removal, so a panic elsewhere leaves no partial state.
        self.suspects.lock()
    }
}

// === impl Suspect ===

impl Suspect {
    /// Records that an engine crashed while it had only this request. True: it is the second crash within ten
    /// minutes, and the request is refused from now on.
    pub(crate) fn crashed(&self) -> bool {
        self.quarantine.crashed(self.hash, Instant::now())
    }
}

/// Hashes everything that the engine computes with, but not what differs between retries: ids, deadlines, seeds.
fn hash(key: u64, account: &str, request: &GenerateRequest) -> u64 {
    let mut hash = key;
    let mut add = |bytes: &[u8]| {
        // The previous hash seeds the next one, so the borders between the parts count too.
        hash = XxHash3_64::oneshot_with_seed(hash, bytes);
    };
    add(account.as_bytes());
    add(request.model.as_bytes());
    // The chain of prefix blocks was computed for placement. It covers all but the last, incomplete block, so a long
    // prompt is not hashed twice.
    add(&request
        .prefix_blocks
        .last()
        .copied()
        .unwrap_or_default()
        .to_le_bytes());
    match &request.prompt {
        Some(Prompt::Chat(chat)) => {
            add(&chat.messages_json.len().to_le_bytes());
            add(&chat.tools_json.len().to_le_bytes());
            add(last_block(&chat.messages_json));
            add(last_block(&chat.tools_json));
            add(&chat.template_kwargs_json);
        }
        Some(Prompt::Text(text)) => match &text.content {
            Some(Content::Text(text)) => {
                add(&text.len().to_le_bytes());
                add(last_block(text.as_bytes()));
            }
            Some(Content::Tokens(tokens)) => {
                add(&tokens.ids.len().to_le_bytes());
                for ids in tokens.ids.chunks(PREFIX_BLOCK / 4) {
                    let mut block = [0; PREFIX_BLOCK];
                    for (bytes, id) in block.as_chunks_mut().0.iter_mut().zip(ids) {
                        *bytes = id.to_le_bytes();
                    }
                    add(&block);
                }
            }
            None => {}
        },
        None => {}
    }
    let format = request.response_format.as_ref();
    if let Some(ResponseFormat {
        format: Some(Format::JsonSchema(schema)),
    }) = format
    {
        add(&schema.schema_json);
    }
    add(&request.extra_json);
    add(&request.choices.to_le_bytes());
    add(&request.max_tokens.unwrap_or_default().to_le_bytes());
    add(&request.top_logprobs.unwrap_or_default().to_le_bytes());
    hash
}

/// The end of a text that the chain of prefix blocks may not cover.
fn last_block(text: &[u8]) -> &[u8] {
    &text[text.len().saturating_sub(PREFIX_BLOCK)..]
}

#[cfg(test)]
mod tests {
    use inferyard_proto::worker::v1::ChatPrompt;
    use tokio::time::advance;

    use super::*;
    use inferyard_proto::prefix::chain as prefix_chain;

    fn request(messages: &'static str) -> GenerateRequest {
        GenerateRequest {
            request_id: format!("{:?}", Instant::now()),
            prompt: Some(Prompt::Chat(ChatPrompt {
                messages_json: messages.into(),
                ..ChatPrompt::default()
            })),
            ..GenerateRequest::default()
        }
    }

    fn is_refused(quarantine: &Arc<Quarantine>, account: &str, messages: &'static str) -> bool {
        quarantine
            .admit(&account.into(), &request(messages))
            .is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn the_second_crash_within_ten_minutes_is_the_last_for_five() {
        let quarantine = Arc::new(Quarantine::default());
        let suspect = || quarantine.admit(&"a".into(), &request("poison")).unwrap();
        assert!(!suspect().crashed());
        advance(WINDOW).await;
        assert!(!suspect().crashed(), "two accidents");
        assert!(!is_refused(&quarantine, "a", "poison"));
        advance(WINDOW / 2).await;
        assert!(suspect().crashed());
        assert!(is_refused(&quarantine, "a", "poison"));
        assert!(!is_refused(&quarantine, "a", "another"));
        assert!(!is_refused(&quarantine, "b", "poison"));
        advance(REFUSED_FOR).await;
        assert!(suspect().crashed(), "and once more");
        assert!(is_refused(&quarantine, "a", "poison"));
        advance(WINDOW).await;
        assert!(!suspect().crashed());
    }

    /// The hash of a chat with these tools and messages, with its prefix blocks computed.
    fn of_chat(tools: &[u8], messages: &[u8]) -> u64 {
        let mut request = GenerateRequest {
            prompt: Some(Prompt::Chat(ChatPrompt {
                tools_json: tools.to_vec().into(),
                messages_json: messages.to_vec().into(),
                ..ChatPrompt::default()
            })),
            ..GenerateRequest::default()
        };
        request.prefix_blocks = prefix_chain(&request);
        hash(7, "a", &request)
    }

    #[test]
    fn every_byte_of_a_prompt_counts() {
        for (tools, messages) in [
            (0, 10),
            (0, 1_024),
            (0, 5_000),
            (700, 100),
            (2_500, 10),
            (2_500, 3_000),
        ] {
            let (tools, messages) = (vec![b't'; tools], vec![b'm'; messages]);
            let whole = of_chat(&tools, &messages);
            assert_eq!(whole, of_chat(&tools, &messages));
            for at in 0..tools.len() {
                let mut other = tools.clone();
                other[at] = b'x';
                assert_ne!(whole, of_chat(&other, &messages), "byte {at} of the tools");
            }
            for at in 0..messages.len() {
                let mut other = messages.clone();
                other[at] = b'x';
                assert_ne!(whole, of_chat(&tools, &other), "byte {at} of the messages");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_the_oldest_is_forgotten() {
        let quarantine = Arc::new(Quarantine::default());
        for hash in 0..=(MOST_SUSPECTS as u64) {
            advance(Duration::from_millis(1)).await;
            assert!(!quarantine.crashed(hash, Instant::now()));
        }
        assert_eq!(quarantine.lock().len(), MOST_SUSPECTS);
        assert!(quarantine.crashed(1, Instant::now()));
        assert!(!quarantine.crashed(0, Instant::now()));
    }
}
