//! Checks a declaration beyond its schema, and resolves all defaults.

mod chat_template;
mod parallel;
mod pod_template;
mod strict;

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
use crate::dereference::{Dereferenced, NameConflict};

pub(crate) use chat_template::CHAT_TEMPLATE_FILE;

/// The default of `spec.rollout.drainTimeout`.
const DEFAULT_DRAIN: Duration = Duration::from_mins(10);

/// A valid declaration, with all defaults resolved.
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
    /// The tensor-parallel size that the operator passes to the engine. None: the arguments of the engine set it.
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
    /// A note for the user, if the declaration has an effect that may be unexpected.
    pub(crate) note: Option<String>,
}

/// Where a worker finds the weights.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Weights {
    /// In the image of the worker.
    Builtin,
    /// At a path in the container.
    File(String),
    /// On a volume into which an init container downloads them.
    Fetched(Fetched),
    /// On an existing claim: its name, and the path on the volume.
    Claim(String, Option<String>),
    /// In an OCI image: its reference, its pull policy, and the path in the image.
    Image(String, Option<&'static str>, Option<String>),
}

/// How weights are downloaded.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fetched {
    pub(crate) args: Vec<String>,
    pub(crate) endpoint: Option<String>,
    /// The environment variable for a token, and the Secret and key that hold it.
    pub(crate) secret: Option<(&'static str, String, String)>,
}

/// An engine and its settings.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum EngineKind {
    /// The embedded engine, with arguments of the worker.
    Embedded(Vec<String>),
    Server(ServerKind, ServerEngine),
}

/// The kind of a server. It decides its command line, and which metrics it has beyond the OpenAI API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerKind {
    Vllm,
    Sglang,
    Openai,
}

/// The bound of the PodDisruptionBudget.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Budget {
    MaxUnavailable(IntOrString),
    MinAvailable(IntOrString),
}

/// Why a declaration is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

/// Checks what the schema and the CEL rules of the resource cannot.
///
/// # Errors
///
/// The first mistake, with the field and what to write instead.
pub(crate) fn validate(found: &Dereferenced, config: &Config) -> Result<Validated, Refusal> {
    let resource = &*found.resource;
    let spec = &resource.spec;
    if let Some(NameConflict { name, owner, .. }) = &found.name_conflict {
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
        drain: drain.map_or(Ok(DEFAULT_DRAIN), time)?,
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

/// The resource name and number of the accelerators, and the labels that a node must have.
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

/// The disruption budget, or a note why there is none. A budget that allows no eviction would block the drain of nodes
/// forever.
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

/// A number or percentage of workers. Percentages are rounded up, as Kubernetes does for budgets.
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

/// `maxSurge` and `maxUnavailable` of a rollout. By default there is no surge for a volume with the access mode
/// ReadWriteOnce, or for workers with accelerators: an additional pod could wait forever for the volume on another
/// node, or for accelerators that the old workers hold.
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

/// A note that a rollout of the only worker is an outage, unless the user has set the rollout.
fn outage(resource: &ModelDeployment) -> Option<String> {
    let spec = &resource.spec;
    let declared = spec.rollout.as_ref();
    let open = declared
        .is_none_or(|rollout| rollout.max_surge.is_none() && rollout.max_unavailable.is_none());
    let note = "a rollout ends the only worker before it starts the new one, and none answers meanwhile; with \
                spec.rollout.maxSurge: 1 the new one starts first, and needs accelerators that are free";
    (open && spec.accelerators.is_some() && spec.scaling.replicas == 1).then(|| note.to_owned())
}

/// A duration such as `1h30m`. The schema has checked its form.
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
