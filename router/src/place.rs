//! Step 5: picks the worker with the least expected time to the first token.

use std::sync::Arc;

use inferyard_proto::worker::v1::GenerateRequest;
use inferyard_proto::worker::v1::generate_request::Prompt;
use inferyard_proto::worker::v1::text_prompt::Content;

use crate::catalog::Model;
use crate::error::PlaceError;

mod fleet;
mod view;
mod worker;

pub(crate) use fleet::Fleet;
pub(crate) use view::Standing;
pub(crate) use worker::{Slot, Worker};

use view::Work;

/// A request's place on a worker; given back when it is dropped.
pub(crate) struct Placed {
    pub(crate) slot: Slot,
    /// Whether the worker already holds a part of the prompt.
    pub(crate) cached: bool,
}

/// Places a request on the best worker that has not been tried.
#[tracing::instrument(level = "debug", skip_all, fields(model = &*model.name, worker))]
pub(crate) fn place(
    fleet: &Fleet,
    model: &Model,
    request: &GenerateRequest,
    tried: &[Arc<Worker>],
) -> Result<Placed, PlaceError> {
    let work = Work {
        model: &model.name,
        prompt_bytes: prompt_bytes(request),
        blocks: &request.prefix_blocks,
        sequences: request.choices.max(1),
    };
    let workers = fleet.workers(&model.name);
    let untried = |worker: &&Arc<Worker>| !tried.iter().any(|other| Arc::ptr_eq(other, worker));
    let best = fleet
        .turned(&workers)
        .filter(untried)
        .filter_map(|worker| Some((worker, worker.expect(&work)?)))
        .min_by(|(_, one), (_, other)| one.seconds.total_cmp(&other.seconds));
    let Some((worker, expected)) = best else {
        return Err(none_ready(&workers, &model.name));
    };
    tracing::Span::current().record("worker", tracing::field::display(worker.endpoint()));
    Ok(Placed {
        slot: worker.take(&work, &expected),
        cached: expected.covered_bytes > 0,
    })
}

fn none_ready(workers: &[Arc<Worker>], model: &str) -> PlaceError {
    let progress = workers
        .iter()
        .filter_map(|worker| match worker.standing(model) {
            Standing::Loading { progress } => Some(progress),
            Standing::Ready
            | Standing::Draining
            | Standing::OtherModel { .. }
            | Standing::Unreachable => None,
        });
    match progress.max_by(f32::total_cmp) {
        Some(progress) => PlaceError::Loading { progress },
        None => PlaceError::NoWorker,
    }
}

/// Bytes of a prompt as it was sent; a token id counts as the text that it stands for.
pub(crate) fn prompt_bytes(request: &GenerateRequest) -> u64 {
    let bytes = match &request.prompt {
        Some(Prompt::Chat(chat)) => chat.tools_json.len() + chat.messages_json.len(),
        Some(Prompt::Text(text)) => match &text.content {
            Some(Content::Text(text)) => text.len(),
            // A token stands for about this many bytes of text.
            Some(Content::Tokens(tokens)) => tokens.ids.len() * 4,
            None => 0,
        },
        None => 0,
    };
    bytes as u64
}
