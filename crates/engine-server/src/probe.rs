//! Looking after the engine: until it is up, what it is, and whether it still is.

use std::time::Duration;

use inferyard_engine::state::State;
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use crate::config::Config;
use crate::dialect::Dialect;
use crate::engine_metrics::Figures;
use crate::http::{Client, HttpError};
use crate::server::Server;
use crate::server_info::Known;

const MODELS: &str = "/v1/models";
/// An engine that starts is asked this soon, and then ever more slowly,
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// up to this pause; one that runs is asked this often.
const PAUSE: Duration = Duration::from_secs(1);
/// How often the log says what the worker waits for.
const REMINDER: Duration = Duration::from_secs(30);
/// A list of models is not longer.
const MAX_MODELS: usize = 1 << 20;
/// Figures are not longer.
const MAX_FIGURES: usize = 8 << 20;
/// So many questions in a row may stay without an answer: a busy engine can be slow.
const PATIENCE: u32 = 3;

/// Why an engine cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// It has several models, or tells none.
    #[error(
        "the engine at {url} names no model at /v1/models; give the name that it serves with --engine-model"
    )]
    NoModel {
        /// Where it is.
        url: String,
    },
    /// It serves others.
    #[error("the engine at {url} does not serve \"{wanted}\"; it serves {}", listed(.serves))]
    OtherModel {
        /// Where it is.
        url: String,
        /// The name that was given.
        wanted: String,
        /// What it names.
        serves: Vec<String>,
    },
    /// The worker shuts down.
    #[error("waiting for the engine was given up")]
    Abandoned,
}

/// Why an engine is not up.
#[derive(Debug, thiserror::Error)]
enum Down {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("it answers with status {0}")]
    Status(u16),
    #[error("what it says at /v1/models is no list of models")]
    Models,
}

#[derive(Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
    #[serde(default)]
    owned_by: Option<String>,
    /// vLLM, SGLang.
    #[serde(default)]
    max_model_len: Option<u32>,
    /// llama.cpp.
    #[serde(default)]
    meta: Option<Meta>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(default)]
    n_ctx: Option<u32>,
}

/// What llama.cpp tells of itself.
#[derive(Deserialize)]
struct Props {
    default_generation_settings: Settings,
}

#[derive(Deserialize)]
struct Settings {
    n_ctx: u32,
}

impl Model {
    fn context_length(&self) -> Option<u32> {
        let meta = self.meta.as_ref();
        self.max_model_len
            .or_else(|| meta.and_then(|meta| meta.n_ctx))
    }
}

/// Waits until the engine is up, and finds out what it is. `state` says what it waits for.
///
/// # Cancellation
///
/// May be dropped at any time.
pub(crate) async fn attach(
    client: &Client,
    config: &Config,
    state: &State,
) -> Result<Known, AttachError> {
    let kind = Dialect::of(config.kind);
    let mut pause = FIRST_PAUSE;
    let mut reminded = Instant::now();
    loop {
        match ask(client, kind, config.served_model.is_some()).await {
            Ok(models) => return known(client, config, kind, models).await,
            Err(down) => {
                let note = format!("waiting for the engine at {}: {down}", client.url());
                if reminded.elapsed() >= REMINDER || pause == FIRST_PAUSE {
                    tracing::info!("{note}");
                    reminded = Instant::now();
                }
                state.set_note(note);
            }
        }
        sleep(pause).await;
        pause = (2 * pause).min(PAUSE);
    }
}

/// The models that it names. `told`: the name of the model is known, and some servers name none.
async fn ask(client: &Client, kind: Dialect, told: bool) -> Result<Vec<Model>, Down> {
    if let Some(health) = kind.health() {
        is_up(client, health).await?;
    }
    let (status, body) = client.get(MODELS, MAX_MODELS).await?;
    if !status.is_success() {
        return Err(Down::Status(status.as_u16()));
    }
    match serde_json::from_slice::<Models>(&body) {
        Ok(models) => Ok(models.data),
        Err(_) if told => Ok(Vec::new()),
        Err(_) => Err(Down::Models),
    }
}

async fn is_up(client: &Client, endpoint: &str) -> Result<(), Down> {
    let (status, _) = client.get(endpoint, MAX_MODELS).await?;
    if status.is_success() {
        Ok(())
    } else {
        Err(Down::Status(status.as_u16()))
    }
}

async fn known(
    client: &Client,
    config: &Config,
    kind: Dialect,
    models: Vec<Model>,
) -> Result<Known, AttachError> {
    let url = || client.url().to_string();
    let owner = models.first().and_then(|model| model.owned_by.as_deref());
    let dialect = kind.refined(owner.unwrap_or_default());
    let chosen = match &config.served_model {
        None => models.first(),
        Some(name) => models.iter().find(|model| model.id == *name),
    };
    let model = match (chosen, &config.served_model) {
        (Some(chosen), _) => chosen.id.clone(),
        (None, None) => return Err(AttachError::NoModel { url: url() }),
        // Some servers list nothing, or what lies on their disk.
        (None, Some(name)) if dialect == Dialect::Plain => name.clone(),
        (None, Some(name)) => {
            return Err(AttachError::OtherModel {
                url: url(),
                wanted: name.clone(),
                serves: models.into_iter().map(|model| model.id).collect(),
            });
        }
    };
    let told = chosen.and_then(Model::context_length);
    let context_length = match (told, dialect) {
        (Some(told), _) => told,
        (None, Dialect::LlamaCpp) => props(client).await,
        (None, _) => 0,
    };
    let health = match dialect.health() {
        Some(health) => health,
        // Cheaper to ask for than a list of models, where there is one.
        None if is_up(client, "/health").await.is_ok() => "/health",
        None => MODELS,
    };
    Ok(Known {
        figures: figures(client, dialect).await.ok().flatten(),
        dialect,
        model,
        context_length,
        health,
    })
}

async fn props(client: &Client) -> u32 {
    let body = client.get("/props", MAX_MODELS).await.map(|(_, body)| body);
    let props = serde_json::from_slice::<Props>(&body.unwrap_or_default());
    props.map_or(0, |props| props.default_generation_settings.n_ctx)
}

/// None: it has no figures.
async fn figures(client: &Client, dialect: Dialect) -> Result<Option<Figures>, HttpError> {
    if !dialect.has_figures() {
        return Ok(None);
    }
    let (status, text) = client.get("/metrics", MAX_FIGURES).await?;
    let read = || Figures::read(&String::from_utf8_lossy(&text), dialect);
    Ok(status.is_success().then(read))
}

/// Asks the engine once a second whether it is up and how busy it is; sooner where a request found it
/// broken. Tells `state` and the worker's health when that changes.
///
/// # Cancellation
///
/// May be dropped at any time.
pub(crate) async fn watch(server: &Server) {
    let mut unanswered = 0;
    let mut has_figures = server.has_figures;
    loop {
        tokio::select! {
            () = sleep(PAUSE) => {}
            () = server.suspect.notified() => {}
        }
        match is_up(&server.client, server.health_page).await {
            Ok(()) => {
                unanswered = 0;
                server.found();
                server.check_progress();
            }
            Err(down) => {
                unanswered += 1;
                let gone = matches!(down, Down::Http(HttpError::Connect(_)));
                if gone || unanswered >= PATIENCE {
                    server.lost(&down.to_string());
                }
                continue;
            }
        }
        if has_figures {
            match figures(&server.client, server.dialect).await {
                Ok(Some(figures)) => server.busy.figures(figures),
                Ok(None) => has_figures = false,
                // Whether it is up is the other question.
                Err(_) => {}
            }
        }
    }
}

fn listed(models: &[String]) -> String {
    if models.is_empty() {
        return "none".to_owned();
    }
    let quoted: Vec<String> = models.iter().map(|model| format!("\"{model}\"")).collect();
    quoted.join(", ")
}
