//! Whether a declaration can be carried out, and what it means in full.

mod chat_template;
mod parallel;
mod pod_template;

use std::collections::BTreeMap;
use std::time::Duration;

use inferyard_crds::{
    AccessMode, ChatTemplate, Engine, ModelDeployment, Reason, ServerEngine, Source, Storage,
    Toleration,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use serde_json::Value;

use crate::config::Config;
use crate::dereference::{Dereferenced, Taken};

pub(crate) use chat_template::CHAT_TEMPLATE_FILE;

/// How long answers may go on where nothing is said.
const USUAL_DRAIN: Duration = Duration::from_mins(10);

/// A declaration of which nothing is open any more.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Validated {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) uid: String,
    pub(crate) model: String,
    pub(crate) image: String,
    pub(crate) replicas: i32,
    pub(crate) weights: Weights,
    pub(crate) storage: Option<Storage>,
    pub(crate) engine: EngineKind,
    pub(crate) chat_template: Option<ChatTemplate>,
    pub(crate) accelerators: Option<(String, i32)>,
    /// Tensor-parallel ranks that the engine's arguments leave open.
    pub(crate) tensor_ranks: Option<i32>,
    pub(crate) node_selector: BTreeMap<String, String>,
    pub(crate) tolerations: Vec<Toleration>,
    pub(crate) max_surge: IntOrString,
    pub(crate) max_unavailable: IntOrString,
    pub(crate) drain: Duration,
    pub(crate) budget: Option<Budget>,
    pub(crate) priority_class: Option<String>,
    pub(crate) overlay: Option<Value>,
    pub(crate) scraper_namespaces: Vec<String>,
    pub(crate) router_namespaces: Vec<String>,
    /// What is carried out otherwise than one might think.
    pub(crate) note: Option<String>,
}

/// How weights come to a worker.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Weights {
    /// In the image.
    Builtin,
    /// At a path in the container.
    File(String),
    /// By a container before the others.
    Fetched(Fetched),
    /// On a claim: its name, and the path in it.
    Claim(String, Option<String>),
    /// In an image: its reference, when it is pulled, and the path in it.
    Image(String, Option<&'static str>, Option<String>),
}

/// How weights are fetched.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fetched {
    pub(crate) args: Vec<String>,
    pub(crate) endpoint: Option<String>,
    /// Variable, Secret, entry.
    pub(crate) secret: Option<(&'static str, String, String)>,
}

/// An engine, with all of its settings.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum EngineKind {
    /// Flags of the worker.
    Embedded(Vec<String>),
    Server(ServerKind, ServerEngine),
}

/// What a server speaks beside OpenAI's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerKind {
    Vllm,
    Sglang,
    Openai,
}

/// What must stay while nodes are emptied.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Budget {
    MaxUnavailable(IntOrString),
    MinAvailable(IntOrString),
}

/// Why a declaration cannot be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

/// Checks what the API server could not.
pub(crate) fn validate(found: &Dereferenced, config: &Config) -> Result<Validated, Refusal> {
    let resource = &*found.resource;
    let spec = &resource.spec;
    if let Some(Taken { name, owner, .. }) = &found.taken {
        let message = format!(
            "the name {name:?} belongs to the older ModelDeployment {owner}: choose another in spec.model"
        );
        return Err(refusal(Reason::NameTaken, message));
    }
    let weights = weights(&spec.model.source)?;
    let (accelerators, node_selector) = accelerators(resource, config)?;
    let (budget, note) = budget(resource);
    let engine = engine(spec.engine.as_ref());
    let ranks = parallel::ranks(&engine, accelerators.as_ref().map(|(_, count)| *count));
    let note = note.or_else(|| outage(resource));
    let notes: Vec<_> = [note, ranks.note].into_iter().flatten().collect();
    let (max_surge, max_unavailable) = rolling(resource);
    let rollout = spec.rollout.as_ref();
    let drain = rollout.and_then(|rollout| rollout.drain_timeout.as_deref());
    let overlay = spec.pod_template.as_ref();
    let overlay = overlay.map(|template| pod_template::check(template, &weights, &engine));
    let overlay = overlay.transpose()?;
    Ok(Validated {
        name: resource.name_any(),
        namespace: resource.namespace().unwrap_or_default(),
        uid: resource.uid().unwrap_or_default(),
        model: resource.model_name().to_owned(),
        image: config.image.clone(),
        replicas: spec.scaling.replicas,
        weights,
        storage: (spec.weights.as_ref()).and_then(|weights| weights.storage.clone()),
        engine,
        chat_template: chat_template::chat_template(spec)?,
        accelerators,
        tensor_ranks: ranks.tensor,
        node_selector,
        tolerations: spec.tolerations.clone(),
        max_surge,
        max_unavailable,
        drain: drain.map_or(Ok(USUAL_DRAIN), time)?,
        budget,
        priority_class: (spec.availability.as_ref())
            .and_then(|availability| availability.priority_class_name.clone()),
        overlay,
        scraper_namespaces: config.scraper_namespaces.clone(),
        router_namespaces: config.router_namespaces.clone(),
        note: (!notes.is_empty()).then(|| notes.join("; ")),
    })
}

fn refusal(reason: Reason, message: impl Into<String>) -> Refusal {
    Refusal {
        reason,
        message: message.into(),
    }
}

fn weights(source: &Source) -> Result<Weights, Refusal> {
    Ok(match source {
        Source::Builtin(_) => Weights::Builtin,
        Source::File(source) if source.path.starts_with('/') => Weights::File(source.path.clone()),
        Source::File(source) => {
            let message = format!(
                "spec.model.source.file: {:?} is a path on one machine; in a cluster, use huggingFace, \
                 http, pvc or image, or an absolute path on a volume that podTemplate mounts",
                source.path
            );
            return Err(refusal(Reason::Invalid, message));
        }
        Source::HuggingFace(source) => {
            let revision = source.revision.as_deref().unwrap_or("main");
            let mut args = vec!["--hugging-face".to_owned(), source.repo.clone()];
            args.extend(["--revision".to_owned(), revision.to_owned()]);
            for glob in &source.include {
                args.extend(["--include".to_owned(), glob.clone()]);
            }
            let secret = source.token_secret.as_ref();
            Weights::Fetched(Fetched {
                args,
                endpoint: source.endpoint.clone(),
                secret: secret.map(|from| ("HF_TOKEN", from.name.clone(), from.key.clone())),
            })
        }
        Source::Http(source) => {
            let mut args = vec!["--url".to_owned(), source.url.clone()];
            if let Some(digest) = &source.sha256 {
                args.extend(["--sha256".to_owned(), digest.clone()]);
            }
            let secret = source.secret.as_ref();
            Weights::Fetched(Fetched {
                args,
                endpoint: None,
                secret: secret.map(|from| ("HTTP_TOKEN", from.name.clone(), from.key.clone())),
            })
        }
        Source::Pvc(source) => Weights::Claim(source.claim_name.clone(), source.path.clone()),
        Source::Image(source) => {
            let pulled = source.pull_policy.map(inferyard_crds::PullPolicy::as_str);
            Weights::Image(source.reference.clone(), pulled, source.path.clone())
        }
    })
}

fn engine(engine: Option<&Engine>) -> EngineKind {
    let server = |kind, engine: &ServerEngine| EngineKind::Server(kind, engine.clone());
    match engine {
        None => EngineKind::Embedded(Vec::new()),
        Some(Engine::Vllm(engine)) => server(ServerKind::Vllm, engine),
        Some(Engine::Sglang(engine)) => server(ServerKind::Sglang, engine),
        Some(Engine::Openai(engine)) => server(ServerKind::Openai, engine),
        Some(Engine::Embedded(engine)) => {
            let settings = [
                ("--context-length", engine.context_length.map(i64::from)),
                ("--max-running", engine.max_running.map(i64::from)),
                ("--max-queued", engine.max_queued.map(i64::from)),
                ("--kv-tokens", engine.kv_tokens),
                ("--threads", engine.threads.map(i64::from)),
            ];
            let given = settings.into_iter().filter_map(|(flag, value)| {
                let value = value?;
                Some([flag.to_owned(), value.to_string()])
            });
            EngineKind::Embedded(given.flatten().collect())
        }
    }
}

type Placement = (Option<(String, i32)>, BTreeMap<String, String>);

/// The resource of the accelerators, and the labels that a node must have.
fn accelerators(resource: &ModelDeployment, config: &Config) -> Result<Placement, Refusal> {
    let own = resource.spec.node_selector.clone();
    let Some(wanted) = &resource.spec.accelerators else {
        return Ok((None, own));
    };
    let Some(class) = &wanted.class else {
        let name = wanted.resource_name.clone().unwrap_or_default();
        return Ok((Some((name, wanted.count)), own));
    };
    let Some(known) = config.classes.get(class) else {
        let known: Vec<_> = config.classes.keys().map(String::as_str).collect();
        let message = format!(
            "spec.accelerators.class: there is no class {class:?}; this operator knows {}",
            known.join(", ")
        );
        return Err(refusal(Reason::NotFound, message));
    };
    let mut labels = known.node_labels.clone();
    labels.extend(own);
    Ok((Some((known.resource.clone(), wanted.count)), labels))
}

/// A budget that could never be honoured would keep nodes from being emptied for ever.
fn budget(resource: &ModelDeployment) -> (Option<Budget>, Option<String>) {
    let replicas = resource.spec.scaling.replicas;
    if replicas < 2 {
        return (None, None);
    }
    let declared = resource.spec.availability.as_ref();
    let (most, least) = declared.map_or((None, None), |declared| {
        (
            declared.max_unavailable.clone(),
            declared.min_available.clone(),
        )
    });
    let note = |what: &str| {
        let note =
            format!("no disruption budget: {what} of {replicas} workers leaves none to evict");
        (None, Some(note))
    };
    match (most, least) {
        (_, Some(least)) => match share(&least, replicas) {
            kept if kept >= replicas => note(&format!("minAvailable {}", text(&least))),
            _ => (Some(Budget::MinAvailable(least)), None),
        },
        (Some(most), None) if share(&most, replicas) == 0 => {
            note(&format!("maxUnavailable {}", text(&most)))
        }
        (Some(most), None) => (Some(Budget::MaxUnavailable(most)), None),
        (None, None) => (Some(Budget::MaxUnavailable(IntOrString::Int(1))), None),
    }
}

/// As Kubernetes counts budgets: shares are rounded up.
pub(crate) fn share(value: &IntOrString, of: i32) -> i32 {
    match value {
        IntOrString::Int(count) => *count,
        IntOrString::String(share) => {
            let percent: i32 = share.trim_end_matches('%').parse().unwrap_or(100);
            percent.saturating_mul(of).saturating_add(99) / 100
        }
    }
}

fn text(value: &IntOrString) -> String {
    match value {
        IntOrString::Int(count) => count.to_string(),
        IntOrString::String(share) => share.clone(),
    }
}

/// Surge and gap of a rollout. A second pod of a volume for one node might wait for ever elsewhere, and so might one
/// that needs accelerators, all of which the workers before it have.
fn rolling(resource: &ModelDeployment) -> (IntOrString, IntOrString) {
    let spec = &resource.spec;
    let storage = spec
        .weights
        .as_ref()
        .and_then(|weights| weights.storage.as_ref());
    let one_node = storage.is_some_and(|storage| storage.access_mode == AccessMode::ReadWriteOnce);
    let declared = spec.rollout.clone().unwrap_or_default();
    let usual = IntOrString::Int(i32::from(!one_node && spec.accelerators.is_none()));
    let surge = declared.max_surge.unwrap_or(usual);
    let gap = declared.max_unavailable.unwrap_or_else(|| {
        let none = matches!(text(&surge).as_str(), "0" | "0%");
        IntOrString::Int(i32::from(none))
    });
    (surge, gap)
}

/// What a rollout of the only worker means, where its owner has not decided it.
fn outage(resource: &ModelDeployment) -> Option<String> {
    let spec = &resource.spec;
    let declared = spec.rollout.as_ref();
    let open = declared
        .is_none_or(|rollout| rollout.max_surge.is_none() && rollout.max_unavailable.is_none());
    let note = "a rollout ends the only worker before it starts the new one, and none answers meanwhile; with \
                spec.rollout.maxSurge: 1 the new one starts first, and needs accelerators that are free";
    (open && spec.accelerators.is_some() && spec.scaling.replicas == 1).then(|| note.to_owned())
}

/// `1h30m`, `90s`: the schema has checked the form.
fn time(text: &str) -> Result<Duration, Refusal> {
    let seconds = inferyard_crds::seconds(text).ok_or_else(|| {
        let message =
            format!("spec.rollout.drainTimeout: expected a time such as 10m, found {text:?}");
        refusal(Reason::Invalid, message)
    })?;
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
pub(crate) mod tests;
