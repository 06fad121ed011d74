//! Sends a failing engine a short request of the worker's own from time to time; once it answers, it is used again.
//! These requests belong to no caller and are not counted.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use inferyard_engine::event::Failure;
use inferyard_engine::request::{Chat, Prompt, Request, TextSource, ToolChoice};
use tokio::time::{sleep, timeout};

use crate::answer::Answer;
use crate::http::HttpError;
use crate::server::Server;
use crate::sse::Lines;
use crate::upstream_call::read_piece;
use crate::upstream_request::UpstreamRequest;

/// The first pause before such a request, and the longest; up to as much again is added by chance, so that the
/// workers of a fleet do not send theirs at the same time.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// How long a token may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longer than such an answer is.
const MAX_ANSWER: usize = 1 << 20;

/// Why the engine is not used again.
#[derive(Debug, thiserror::Error)]
enum StillFailing {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("it answers with status {0}")]
    Status(u16),
    #[error("{}", .0.message)]
    Answer(Failure),
    #[error("no token within {} s", PATIENCE.as_secs())]
    Silent,
}

/// Sends such requests for as long as the engine is unhealthy.
///
/// # Cancellation
///
/// May be dropped at any time.
pub(crate) async fn run(server: &Server) {
    let mut condition = server.health.changes();
    let mut pauses = pauses();
    loop {
        if condition.wait_for(|now| now.is_unhealthy()).await.is_err() {
            return;
        }
        // An engine that answers only these requests, and no caller's, gets them ever more slowly.
        if server.health.has_proved_itself() {
            pauses = self::pauses();
        }
        let pause = pauses.next().unwrap_or(PAUSES.1);
        tokio::select! {
            () = sleep(pause) => {}
            _ = condition.wait_for(|now| !now.is_unhealthy()) => continue,
        }
        match timeout(PATIENCE, ask(server)).await {
            Ok(Ok(())) => server.recovered(),
            Ok(Err(why)) => tracing::debug!(%why, "the engine still fails"),
            Err(_) => tracing::debug!(why = %StillFailing::Silent, "the engine still fails"),
        }
    }
}

fn pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(PAUSES.0)
        .with_max_delay(PAUSES.1)
        .without_max_times()
        .with_jitter()
        .build()
}

/// Every server completes text; some that serve chat models only do not.
async fn ask(server: &Server) -> Result<(), StillFailing> {
    let text = Prompt::Text {
        source: TextSource::Text("OK".to_owned()),
        echo: false,
    };
    let chat = Prompt::Chat(Chat {
        messages_json: Bytes::from_static(br#"[{"role":"user","content":"OK"}]"#),
        tools_json: Bytes::new(),
        tool_choice: ToolChoice::None,
        parallel_tool_calls: true,
        template_kwargs_json: Bytes::new(),
    });
    match generate(server, text).await {
        Err(StillFailing::Status(400..500)) => generate(server, chat).await,
        answered => answered,
    }
}

/// A short answer, read to its end: an engine may break off after its first token.
async fn generate(server: &Server, prompt: Prompt) -> Result<(), StillFailing> {
    let request = Request {
        max_tokens: Some(2),
        ..Request::new(prompt)
    };
    let request = UpstreamRequest::new(request, &server.model, server.dialect, false);
    let request = request.map_err(StillFailing::Answer)?;
    let mut response = server.client.post(request.endpoint, request.body).await?;
    let status = response.status();
    if !status.is_success() {
        return Err(StillFailing::Status(status.as_u16()));
    }
    let mut answer = Answer::new(1, request.options, 1, None, server.context_length);
    let mut events = Vec::new();
    if response.is_json() {
        let whole = response.whole(MAX_ANSWER).await?;
        answer
            .read(&whole, &mut events)
            .map_err(StillFailing::Answer)?;
        answer.done();
    } else {
        let mut lines = Lines::default();
        while !answer.is_done() {
            let Some(bytes) = response.next().await? else {
                break;
            };
            read_piece(
                &bytes,
                &mut lines,
                &mut answer,
                &mut events,
                server.context_length,
            )
            .map_err(StillFailing::Answer)?;
            events.clear();
        }
    }
    answer.end(&mut events).map_err(StillFailing::Answer)?;
    Ok(())
}
