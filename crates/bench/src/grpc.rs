//! Requests over gRPC without a router, and the reading of their events, which the in-process engine shares.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use inferyard_proto::worker::v1::generate_event::Event;
use inferyard_proto::worker::v1::generate_request::Prompt;
use inferyard_proto::worker::v1::worker_client::WorkerClient;
use inferyard_proto::worker::v1::worker_state::Phase;
use inferyard_proto::worker::v1::{
    ChatPrompt, GenerateEvent, GenerateRequest, Sampling, WatchRequest,
};
use tokio_stream::{Stream, StreamExt};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::prompt;
use crate::way::{Answer, Way};

/// A connection to a worker; clones share it.
#[derive(Clone)]
pub(crate) struct Grpc(WorkerClient<Channel>);

// === impl Grpc ===

impl Grpc {
    /// Connects to `host:port`.
    pub(crate) async fn connect(address: &str) -> Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
        let channel = endpoint
            .tcp_nodelay(true)
            .initial_connection_window_size(16 << 20)
            .connect()
            .await
            .with_context(|| format!("connecting to the worker at {address}"))?;
        Ok(Self(WorkerClient::new(channel)))
    }

    /// Waits until the worker has loaded its model.
    pub(crate) async fn ready(&mut self) -> Result<()> {
        let mut states = self.0.watch(WatchRequest {}).await?.into_inner();
        while let Some(state) = states.message().await? {
            if state.phase() == Phase::Ready {
                return Ok(());
            }
        }
        bail!("the worker ended before it was ready")
    }

    /// Sends a request.
    pub(crate) async fn generate(
        &self,
        request: GenerateRequest,
    ) -> Result<tonic::Streaming<GenerateEvent>> {
        Ok(self.0.clone().generate(request).await?.into_inner())
    }

    /// Tokens that the worker has computed and produced so far.
    pub(crate) async fn worked(&mut self) -> Result<u64> {
        let mut states = self.0.watch(WatchRequest {}).await?.into_inner();
        let state = states.message().await?;
        let state = state.context("the worker does not say how it is")?;
        Ok(state.worked_tokens_total)
    }
}

impl Way for Grpc {
    async fn answer(&mut self, number: usize) -> Result<Answer> {
        let events = self.0.generate(request(number)).await?.into_inner();
        read(events).await
    }
}

/// The request with this number.
pub(crate) fn request(number: usize) -> GenerateRequest {
    GenerateRequest {
        request_id: format!("req_{number:032x}"),
        model: inferyard_demo_model::NAME.to_owned(),
        prompt: Some(Prompt::Chat(ChatPrompt {
            messages_json: prompt::messages(number).into(),
            ..ChatPrompt::default()
        })),
        max_tokens: Some(prompt::MAX_TOKENS),
        sampling: Some(Sampling {
            temperature: Some(0.0),
            ..Sampling::default()
        }),
        ..GenerateRequest::default()
    }
}

/// Reads an answer to its end.
pub(crate) async fn read<E>(mut events: E) -> Result<Answer>
where
    E: Stream<Item = Result<GenerateEvent, Status>> + Unpin,
{
    let mut first_token = None;
    while let Some(event) = events.next().await {
        match event?.event {
            Some(Event::Delta(delta)) if !delta.content.is_empty() => {
                first_token.get_or_insert_with(Instant::now);
            }
            Some(Event::Finished(finished)) => {
                let usage = finished.usage.context("the answer has no usage")?;
                let first_token = first_token.context("the answer has no text")?;
                return Ok(Answer {
                    first_token,
                    tokens: usage.completion_tokens,
                });
            }
            Some(Event::Failed(failed)) => bail!("the worker failed: {}", failed.message),
            _ => {}
        }
    }
    bail!("the answer broke off")
}
