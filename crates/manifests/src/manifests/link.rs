//! Resolves the references between documents, and checks that every name belongs to one document.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use inferyard_catalog::Plan;
use inferyard_crds::{
    ApiKey, BuiltinModel, ChatTemplate, Engine, ModelDeployment, Plan as PlanResource, Source,
    UNFIT_NAME, nearest,
};
use inferyard_domain::ModelId;

use super::{EngineSettings, Manifests, ModelManifest, Weights};
use crate::document::{CONFIG_MAP, Document, Resource};
use crate::key::{self, DeclaredKey};
use crate::mistake::Mistake;
use crate::plan;
use crate::schema::listed;

/// Links the documents. Those with a mistake are skipped, and the mistake is appended to `mistakes`.
pub(super) fn link(documents: &[Document<'_>], mistakes: &mut Vec<Mistake>) -> Manifests {
    check_identities(documents, mistakes);
    let mut manifests = Manifests::default();
    let mut owners = HashMap::new();
    for document in documents {
        if let Some(Resource::Model(resource)) = &document.resource {
            let mut model = model(document, resource, mistakes);
            model.chat_template = chat_template(documents, document, resource, mistakes);
            claim_names(document, &model, &mut owners, mistakes);
            manifests.models.push(model);
        }
    }
    let mut preview = None;
    for document in documents {
        if let Some(Resource::Plan(resource)) = &document.resource {
            let models = models(&manifests, documents, document, resource, mistakes);
            let mut report = |path: &str, message| mistakes.push(document.mistake(path, message));
            let plan = plan::convert(&document.name, &resource.spec, models, &mut report);
            check_preview(document, &plan, &mut preview, mistakes);
            manifests.plans.insert(plan.name.shared(), Arc::new(plan));
        }
    }
    for document in documents {
        if let Some(Resource::Key(resource)) = &document.resource {
            add_key(&mut manifests, documents, document, resource, mistakes);
        }
    }
    if mistakes.is_empty() && manifests.models.is_empty() {
        let file = documents
            .first()
            .map_or(Path::new("-"), |document| &document.file.path);
        let message = "no ModelDeployment: there is nothing to serve".to_owned();
        mistakes.push(Mistake::new(file, 0, String::new(), message));
    }
    manifests
}

/// Checks that kind and name are unique, and that all documents are of one namespace.
fn check_identities(documents: &[Document<'_>], mistakes: &mut Vec<Mistake>) {
    let mut seen: BTreeMap<(&str, &str), &Document<'_>> = BTreeMap::new();
    let mut namespace: Option<&str> = None;
    for document in documents {
        if let Some(own) = document.namespace.as_deref() {
            let first = *namespace.get_or_insert(own);
            if first != own {
                let message = format!(
                    "expected {first:?}, as in the documents before, found {own:?}: what runs \
                     together lives in one namespace"
                );
                mistakes.push(document.mistake("metadata.namespace", message));
            }
        }
        if document.name.is_empty() {
            continue;
        }
        let identity = (document.kind.as_str(), document.name.as_str());
        if let Some(first) = seen.get(&identity) {
            let message = format!(
                "this {} is declared twice, first in {}:{}",
                document.kind,
                first.file.path.display(),
                first.first_line()
            );
            mistakes.push(document.mistake("metadata.name", message));
        } else {
            seen.insert(identity, document);
        }
    }
}

/// The longest name that a cluster allows for a `ModelDeployment`: the names of its pods begin with it.
const LONGEST_NAME: usize = 52;

/// The message for a source from which only a cluster can fetch.
const CLUSTER_ONLY_SOURCE: &str = "expected builtin or file on one machine: download the model as a GGUF file and name it by file.path";

/// The message for an engine that only a cluster can start.
const CLUSTER_ONLY_ENGINE: &str = "expected embedded, or no engine, on one machine: start the server yourself, and a worker \
     for it with `inferyard worker --engine`";

fn model(
    document: &Document<'_>,
    resource: &ModelDeployment,
    mistakes: &mut Vec<Mistake>,
) -> ModelManifest {
    let served = &resource.spec.model;
    let name = served.name.as_deref().unwrap_or(&document.name);
    let created = match &resource.metadata.creation_timestamp {
        Some(moment) => SystemTime::from(moment.0),
        None => document.file.modified,
    };
    let engine = match &resource.spec.engine {
        Some(Engine::Embedded(engine)) => engine.clone().into(),
        Some(Engine::Vllm(_) | Engine::Sglang(_) | Engine::Openai(_)) => {
            mistakes.push(document.mistake("spec.engine", CLUSTER_ONLY_ENGINE.to_owned()));
            EngineSettings::default()
        }
        None => EngineSettings::default(),
    };
    let weights = match &served.source {
        Source::Builtin(source) => Weights::Builtin(source.name),
        Source::File(source) => Weights::File(beside(&document.file.path, &source.path)),
        Source::HuggingFace(_) | Source::Http(_) | Source::Pvc(_) | Source::Image(_) => {
            let message = CLUSTER_ONLY_SOURCE.to_owned();
            mistakes.push(document.mistake("spec.model.source", message));
            Weights::Builtin(BuiltinModel::Demo)
        }
    };
    if document.name.len() > LONGEST_NAME {
        mistakes.push(document.mistake("metadata.name", UNFIT_NAME.to_owned()));
    }
    if resource.spec.scaling.replicas == 0 {
        let message = "expected at least 1 on one machine: leave the model out to stop it";
        mistakes.push(document.mistake("spec.scaling.replicas", message.to_owned()));
    }
    ModelManifest {
        resource: document.name.as_str().into(),
        name: name.into(),
        aliases: served
            .aliases
            .iter()
            .map(|alias| alias.as_str().into())
            .collect(),
        created: created
            .duration_since(UNIX_EPOCH)
            .map_or(0, |age| age.as_secs()),
        weights,
        engine,
        chat_template: None,
        replicas: (resource.spec.scaling.replicas.try_into())
            .expect("replicas should be in the range of the schema"),
    }
}

/// The text of the chat template, from the document itself or from a `ConfigMap`.
fn chat_template(
    documents: &[Document<'_>],
    document: &Document<'_>,
    resource: &ModelDeployment,
    mistakes: &mut Vec<Mistake>,
) -> Option<Arc<str>> {
    let from = match resource.spec.chat_template.as_ref()? {
        ChatTemplate::Inline(text) => return Some(text.as_str().into()),
        ChatTemplate::ConfigMap(from) => from,
    };
    let maps = documents.iter().filter(|other| other.kind == CONFIG_MAP);
    let Some(map) = maps.clone().find(|map| map.name == from.name) else {
        let message = format!(
            "no manifest declares a ConfigMap named {:?}{}",
            from.name,
            instead(&from.name, maps.map(|map| map.name.as_str()))
        );
        mistakes.push(document.mistake("spec.chatTemplate.configMap.name", message));
        return None;
    };
    // A mistake in the ConfigMap itself is reported there.
    let Some(Resource::ConfigMap(data)) = &map.resource else {
        return None;
    };
    let text = data.get(&from.key).map(|text| text.as_str().into());
    if text.is_none() {
        let message = format!(
            "the ConfigMap {} has no entry {:?}{}",
            from.name,
            from.key,
            instead(&from.key, data.keys().map(String::as_str))
        );
        mistakes.push(document.mistake("spec.chatTemplate.configMap.key", message));
    }
    text
}

/// A path in a manifest is relative to the manifest's folder.
fn beside(manifest: &Path, path: &str) -> PathBuf {
    match manifest.parent() {
        Some(folder) => folder.join(path),
        None => path.into(),
    }
}

/// Checks that each name and alias belongs to one model.
fn claim_names(
    document: &Document<'_>,
    model: &ModelManifest,
    owners: &mut HashMap<Arc<str>, Arc<str>>,
    mistakes: &mut Vec<Mistake>,
) {
    let aliases = model.aliases.iter().enumerate();
    let places = aliases.map(|(index, alias)| (format!("spec.model.aliases[{index}]"), alias));
    for (path, name) in [("spec.model.name".to_owned(), &model.name)]
        .into_iter()
        .chain(places)
    {
        if let Some(owner) = owners.get(name) {
            let message = format!("the name {name:?} is taken by ModelDeployment {owner}");
            mistakes.push(document.mistake(&path, message));
        } else {
            owners.insert(name.clone(), model.resource.clone());
        }
    }
}

/// The canonical names of the models that a plan allows by name; `None`: it allows all.
fn models(
    manifests: &Manifests,
    documents: &[Document<'_>],
    document: &Document<'_>,
    resource: &PlanResource,
    mistakes: &mut Vec<Mistake>,
) -> Option<Vec<ModelId>> {
    let names = resource.spec.models.as_ref()?.iter().enumerate();
    let canonical = names.filter_map(|(index, name)| {
        let known = manifests
            .model(name)
            .map(|model| ModelId::from(&*model.name));
        if known.is_none() && all_are_valid(documents, "ModelDeployment") {
            let models = manifests.models.iter();
            let names = models.flat_map(|model| [&model.name].into_iter().chain(&model.aliases));
            let message = format!(
                "no ModelDeployment serves a model named {name:?}{}",
                instead(name, names.map(|name| &**name))
            );
            mistakes.push(document.mistake(&format!("spec.models[{index}]"), message));
        }
        known
    });
    Some(canonical.collect())
}

/// A suggestion for a name that does not exist.
fn instead<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 8;
    let known: Vec<_> = known.collect();
    match nearest(name, known.iter().copied()) {
        Some(near) => format!(": did you mean {near:?}?"),
        None if known.is_empty() => String::new(),
        None if known.len() <= SHOWN => format!(": expected {}", listed(known)),
        None => format!(
            ": expected one of {} names, such as {}",
            known.len(),
            listed(known.into_iter().take(SHOWN))
        ),
    }
}

/// Checks that at most one plan serves callers without a key.
fn check_preview<'a>(
    document: &'a Document<'_>,
    plan: &Plan,
    first: &mut Option<&'a str>,
    mistakes: &mut Vec<Mistake>,
) {
    if plan.preview.is_none() {
        return;
    }
    if let Some(first) = first {
        let message = format!(
            "Plan {first} is open to callers without a key already, and only one plan can be: \
             leave the field out of one of them"
        );
        mistakes.push(document.mistake("spec.preview", message));
    } else {
        *first = Some(&document.name);
    }
}

/// Whether all documents of a kind are valid. If not, a name that is not found is no mistake: an invalid document may
/// declare it.
fn all_are_valid(documents: &[Document<'_>], kind: &str) -> bool {
    let mut of_kind = documents.iter().filter(|document| document.kind == kind);
    of_kind.all(|document| document.resource.is_some())
}

fn add_key(
    manifests: &mut Manifests,
    documents: &[Document<'_>],
    document: &Document<'_>,
    resource: &ApiKey,
    mistakes: &mut Vec<Mistake>,
) {
    let spec = &resource.spec;
    let Some(plan) = manifests.plans.get(spec.plan.as_str()).cloned() else {
        if all_are_valid(documents, "Plan") {
            let message = format!(
                "there is no Plan named {:?}{}",
                spec.plan,
                instead(&spec.plan, manifests.plans.keys().map(|name| &**name))
            );
            mistakes.push(document.mistake("spec.plan", message));
        }
        return;
    };
    let mut report = |path: &str, message| mistakes.push(document.mistake(path, message));
    for declared in key::convert(&document.name, spec, &plan, &mut report) {
        add_hash(manifests, document, declared, mistakes);
    }
}

/// Adds a key under its hash, and checks that the hash belongs to one key.
fn add_hash(
    manifests: &mut Manifests,
    document: &Document<'_>,
    declared: DeclaredKey,
    mistakes: &mut Vec<Mistake>,
) {
    let key = Arc::new(declared.key);
    if let Some(first) = manifests.keys.insert(declared.hash, key) {
        let message = format!(
            "ApiKey {} has the same hash",
            first.name.as_deref().unwrap_or_default()
        );
        mistakes.push(document.mistake(declared.path, message));
    }
}
