//! Steps 5 and 6 up to the first token, however long it takes.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use inferyard_listen::Throttle;
use inferyard_proto::worker::v1::GenerateRequest;
use tokio::time::{Instant, sleep};
use tracing::Instrument as _;

use crate::accept::{Accepted, RequestId};
use crate::app::App;
use crate::error::{Error, StreamError};
use crate::explain;
use crate::meter::{Meter, Note, Notes};
use crate::place::{Seeker, place};
use crate::quarantine::Suspect;
use crate::read::Generation;
use crate::reserve::{Estimate, Recount};
use crate::stream::{self, Tokens, Tries};
use inferyard_catalog::Key;

/// While workers fail, every request is tried on several of them.
static WARNINGS: Throttle = Throttle::new(50, Duration::from_secs(10));

/// A request that has no token yet: it waits for a worker, or for one to compute its prompt. Dropped, it leaves
/// the line, or its worker is told to end.
pub(crate) struct Beginning {
    work: Pin<Box<dyn Future<Output = Result<Tokens, Error>> + Send>>,
    notes: Notes,
}

/// An answer, as far as it has come.
#[expect(clippy::large_enum_variant, reason = "nearly all have tokens")]
pub(crate) enum Begun {
    Tokens(Tokens),
    NotYet(Beginning),
}

/// What is asked.
struct Asked {
    id: RequestId,
    deadline: Instant,
    request: GenerateRequest,
    /// A prompt that is too long for what is set aside is paid exactly, once.
    recount: Option<Recount>,
    /// What is told where it ends an engine.
    suspect: Suspect,
    /// Whether the head is to say why it was placed as it was.
    explain: bool,
}

// === impl Beginning ===

impl Beginning {
    /// Takes the request out of its generation.
    pub(crate) fn new(
        app: &Arc<App>,
        accepted: &Accepted,
        key: &Key,
        generation: &mut Generation,
        estimate: &Estimate,
        recount: Option<Recount>,
        suspect: Suspect,
    ) -> Self {
        let seeker = Seeker::new(accepted.id, generation, key, estimate);
        let asked = Asked {
            id: accepted.id,
            deadline: accepted.deadline,
            explain: explain::is_asked(app, &accepted.head.headers),
            request: std::mem::take(&mut generation.request),
            recount,
            suspect,
        };
        let notes = Notes::default();
        let work = begin(Arc::clone(app), seeker, asked, notes.clone());
        Self {
            work: Box::pin(work.in_current_span()),
            notes,
        }
    }

    /// Waits for the first token.
    pub(crate) async fn tokens(mut self, meter: &mut Meter) -> Result<Tokens, Error> {
        poll_fn(|cx| self.poll(cx, meter)).await
    }

    /// Waits for the first token, but not longer than until the client should hear something.
    pub(crate) async fn soon(mut self, app: &App, meter: &mut Meter) -> Result<Begun, Error> {
        tokio::select! {
            biased;
            tokens = poll_fn(|cx| self.poll(cx, meter)) => tokens.map(Begun::Tokens),
            () = sleep(app.config.keep_alive) => Ok(Begun::NotYet(self)),
        }
    }

    /// The first token; after that not to be asked again.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        meter: &mut Meter,
    ) -> Poll<Result<Tokens, Error>> {
        let polled = self.work.as_mut().poll(cx);
        meter.read(&self.notes);
        polled
    }
}

/// Places and streams until some worker has produced the first token: the commit point.
async fn begin(
    app: Arc<App>,
    mut seeker: Seeker,
    mut asked: Asked,
    notes: Notes,
) -> Result<Tokens, Error> {
    let model = Arc::clone(seeker.model());
    let mut tries = Tries::default();
    loop {
        if tries.should_wait() {
            seeker.rest();
        }
        let placed = place(&app.fleet, &mut seeker, tries.workers()).await;
        app.telemetry.line.sought(&seeker, &placed);
        let placed = match placed {
            Ok(placed) => placed,
            Err(none) => return Err(tries.none_left(none)),
        };
        app.telemetry.placed(&model, placed.cached);
        if asked.explain
            && let Some((name, value)) = explain::header(&placed.decided)
        {
            notes.write(Note::Header(name, value));
        }
        let worker = Arc::clone(placed.slot.worker());
        let sent = stream::Sent {
            id: asked.id,
            request: asked.now(),
            suspect: asked.suspect.clone(),
        };
        match stream::open(placed.slot, sent, &notes, &app.given_up).await {
            Ok(tokens) => return Ok(tokens),
            Err(error) => {
                if asked.pays_exactly(&error, &notes).await? {
                    continue;
                }
                if !error.is_of_the_caller()
                    && let Some(suppressed) = WARNINGS.admit()
                {
                    let worker = worker.endpoint();
                    tracing::warn!(request_id = %asked.id, %worker, %error, suppressed, "a try failed");
                }
                let reason = tries.failed(worker, error)?;
                app.telemetry.retried(&model, reason);
            }
        }
    }
}

// === impl Asked ===

impl Asked {
    /// Where a worker has counted the prompt and there is more of it than could be paid, sets aside what it
    /// needs; true: that is done, and the request can be sent again. `false`: it is another failure.
    async fn pays_exactly(&mut self, error: &StreamError, notes: &Notes) -> Result<bool, Error> {
        let StreamError::PromptTooExpensive { prompt_tokens } = error else {
            return Ok(false);
        };
        let Some(recount) = self.recount.take() else {
            return Ok(false);
        };
        let need = recount.exact(*prompt_tokens, &mut self.request).await?;
        notes.write(Note::Granted(need));
        Ok(true)
    }

    /// The request as it is sent now: so much time is left for it.
    fn now(&self) -> GenerateRequest {
        let left = self.deadline.duration_since(Instant::now());
        GenerateRequest {
            deadline_ms: Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
            ..self.request.clone()
        }
    }
}
