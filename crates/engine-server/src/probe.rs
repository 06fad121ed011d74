//! Probes the server: waits until it is up, finds out what it is, and then checks that it stays up.

use std::time::Duration;

use inferyard_engine::state::State;
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use crate::config::Config;
use crate::dialect::Dialect;
use crate::engine_metrics::EngineMetrics;
use crate::http::{Client, HttpError};
use crate::server::Server;
use crate::server_info::ServerInfo;

const MODELS: &str = "/v1/models";
/// The first pause between probes of a server that starts; each pause is twice as long,
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// up to this one, which is also the pause between probes of a server that runs.
const PAUSE: Duration = Duration::from_secs(1);
/// How often the log says what the worker waits for.
const REMINDER: Duration = Duration::from_secs(30);
/// The largest list of models.
const MAX_MODELS: usize = 1 << 20;
/// The largest page of metrics.
const MAX_METRICS: usize = 8 << 20;
/// Probes in a row that must fail before the server counts as gone: a busy one can be slow.
const PATIENCE: u32 = 3;

/// Why an engine cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The server names no model.
    #[error(
        "the engine at {url} names no model at /v1/models; give the name that it serves with --engine-model"
    )]
    NoModel {
        /// The address of the server.
        url: String,
    },
    /// The server serves other models.
    #[error("the engine at {url} does not serve \"{wanted}\"; it serves {}", listed(.serves))]
    OtherModel {
        /// The address of the server.
        url: String,
        /// The name that was configured.
        wanted: String,
        /// The names that it lists.
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

/// Waits until the server is up, and finds out what it is. `state` shows what the worker waits for.
///
/// # Cancellation
///
/// May be dropped at any time.
pub(crate) async fn attach(
    client: &Client,
    config: &Config,
    state: &State,
) -> Result<ServerInfo, AttachError> {
    let kind = Dialect::of(config.kind);
    let mut pause = FIRST_PAUSE;
    let mut reminded = Instant::now();
    loop {
        match ask(client, kind, config.served_model.is_some()).await {
            Ok(models) => return identify(client, config, kind, models).await,
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

async fn identify(
    client: &Client,
    config: &Config,
    kind: Dialect,
    models: Vec<Model>,
) -> Result<ServerInfo, AttachError> {
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
    Ok(ServerInfo {
        metrics: metrics(client, dialect).await.ok().flatten(),
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

/// None: the server has no metrics that are read.
async fn metrics(client: &Client, dialect: Dialect) -> Result<Option<EngineMetrics>, HttpError> {
    if !dialect.has_metrics() {
        return Ok(None);
    }
    let (status, text) = client.get("/metrics", MAX_METRICS).await?;
    let read = || EngineMetrics::read(&String::from_utf8_lossy(&text), dialect);
    Ok(status.is_success().then(read))
}

/// Probes the health and the metrics of the server once a second, or at once after a request found it broken. Reports
/// changes to `state` and to the health of the worker.
///
/// # Cancellation
///
/// May be dropped at any time.
pub(crate) async fn watch(server: &Server) {
    let mut unanswered = 0;
    let mut has_metrics = server.has_metrics;
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
        if has_metrics {
            match metrics(&server.client, server.dialect).await {
                Ok(Some(metrics)) => server.load.metrics(metrics),
                Ok(None) => has_metrics = false,
                // The health check decides whether the server is up.
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
