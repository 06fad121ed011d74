//! Events become one body.

use hyper::body::Bytes;
use inferyard_engine::event::{Event, Failure, FailureKind, FinishReason, Usage};
use inferyard_engine::reply::Events;
use serde_json::json;
use tokio_stream::StreamExt;

use super::ask::{Endpoint, Shape};
use super::wire::{self, Head};

#[derive(Clone, Default)]
struct Choice {
    content: String,
    reason: Option<FinishReason>,
}

/// Reads an answer to its end.
///
/// # Cancellation
///
/// Dropping the future ends the request.
pub(super) async fn collect(
    mut events: Events,
    head: &Head,
    shape: Shape,
) -> Result<Bytes, Failure> {
    let mut choices = vec![Choice::default(); shape.choices];
    while let Some(event) = events.next().await {
        match event {
            Event::Admitted { .. } => {}
            Event::Delta(delta) => choices[delta.choice as usize].content += &delta.content,
            Event::ChoiceFinished { choice, reason } => {
                choices[choice as usize].reason = Some(reason);
            }
            Event::Finished(usage) => return Ok(body(&choices, usage, head, shape)),
            Event::Failed(failure) => return Err(failure),
        }
    }
    Err(Failure::new(FailureKind::Internal, "the engine broke"))
}

fn body(choices: &[Choice], usage: Usage, head: &Head, shape: Shape) -> Bytes {
    let mut out = head.open(shape.endpoint, false);
    let choices = choices.iter().enumerate().map(|(index, choice)| {
        let Choice { content, reason } = choice;
        let reason = reason.map(wire::reason);
        match shape.endpoint {
            Endpoint::Chat => json!({
                "index": index,
                "message": {"role": "assistant", "content": content, "refusal": null},
                "logprobs": null,
                "finish_reason": reason,
            }),
            Endpoint::Completions => json!({
                "text": content,
                "index": index,
                "logprobs": null,
                "finish_reason": reason,
            }),
        }
    });
    out += ",\"choices\":";
    out += &choices.collect::<serde_json::Value>().to_string();
    out += ",\"usage\":";
    wire::usage(usage, &mut out);
    out.push('}');
    out.into()
}
