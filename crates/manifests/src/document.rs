//! One document of a manifest file: its kind and name, and the typed resource in it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use inferyard_crds::{API_VERSION, ApiKey, ModelDeployment, Plan};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::mistake::Mistake;
use crate::read::ManifestFile;
use crate::schema::{self, Violation, listed};
use crate::yaml::{self, Node};

/// The only built-in kind of Kubernetes that manifests may contain: a `ConfigMap` can hold chat templates.
pub(crate) const CONFIG_MAP: &str = "ConfigMap";
const CONFIG_MAP_VERSION: &str = "v1";

/// A document of one of our kinds, or a `ConfigMap`.
pub(crate) struct Document<'a> {
    pub(crate) file: &'a ManifestFile,
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) namespace: Option<String>,
    /// `None`: the document has mistakes, which are reported. Its name is known nevertheless, so that references to it
    /// are not reported as well.
    pub(crate) resource: Option<Resource>,
    node: Node,
}

/// A resource that is valid by itself; its references are not resolved yet.
pub(crate) enum Resource {
    Model(Box<ModelDeployment>),
    Plan(Plan),
    Key(ApiKey),
    /// The entries that are texts.
    ConfigMap(BTreeMap<String, String>),
}

/// The schemas of our kinds, with the fields that every resource has, as an API server checks them.
static SCHEMAS: LazyLock<BTreeMap<String, JSONSchemaProps>> = LazyLock::new(|| {
    let definitions = inferyard_crds::definitions().into_iter();
    let schemas = definitions.map(|definition| {
        let kind = definition.spec.names.kind;
        let version = definition.spec.versions.into_iter().next();
        let mut schema = version
            .and_then(|version| version.schema?.open_api_v3_schema)
            .expect("our definitions should have a schema");
        let fields = schema.properties.get_or_insert_default();
        fields.extend(envelope());
        schema
            .required
            .get_or_insert_default()
            .push("metadata".to_owned());
        (kind, schema)
    });
    schemas.collect()
});

/// The schema of a `ConfigMap`.
static CONFIG_MAP_SCHEMA: LazyLock<JSONSchemaProps> = LazyLock::new(|| {
    let texts = json!({"type": "object", "additionalProperties": {"type": "string"}});
    let schema = json!({
        "type": "object",
        "required": ["metadata"],
        "properties": {"data": texts, "binaryData": texts, "immutable": {"type": "boolean"}},
    });
    let mut schema: JSONSchemaProps =
        serde_json::from_value(schema).expect("it should be a schema");
    let fields = schema.properties.get_or_insert_default();
    fields.extend(envelope());
    schema
});

/// The schemas of the fields that every resource has. Some are written by the cluster; they are allowed because
/// `kubectl get -o yaml` prints them.
fn envelope() -> BTreeMap<String, JSONSchemaProps> {
    let texts = json!({"type": "object", "additionalProperties": {"type": "string"}});
    let name = json!({
        "type": "string", "minLength": 1, "maxLength": 63,
        "pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
    });
    let any = json!({"x-kubernetes-preserve-unknown-fields": true});
    let envelope = json!({
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "status": any,
        "metadata": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": name, "namespace": name, "labels": texts, "annotations": texts,
                "creationTimestamp": {"type": "string", "format": "date-time"},
                "uid": any, "resourceVersion": any, "generation": any, "managedFields": any,
                "ownerReferences": any, "finalizers": any,
            },
        },
    });
    serde_json::from_value(envelope).expect("the envelope should be a schema")
}

/// Checks the `spec` of one of our kinds against its schema. Unknown fields are no violation here: the API server has
/// checked them against the definitions that the cluster has, which may be newer than ours.
///
/// # Panics
///
/// If `kind` is not one of our kinds.
#[must_use]
pub fn check_spec(kind: &str, spec: &serde_json::Value) -> Vec<Violation> {
    let mut violations = Vec::new();
    let schema = &SCHEMAS[kind];
    let schema = schema.properties.as_ref().and_then(|all| all.get("spec"));
    let schema = schema.expect("the schema of a kind should have a spec");
    schema::check(schema, &Node::from(spec), "spec", &mut violations);
    violations.retain(|violation| !violation.unknown_field);
    violations
}

/// Parses and checks the documents of a file; mistakes are appended to `mistakes`.
pub(crate) fn documents<'a>(
    file: &'a ManifestFile,
    mistakes: &mut Vec<Mistake>,
) -> Vec<Document<'a>> {
    match yaml::documents(&file.text) {
        Ok(nodes) => nodes
            .into_iter()
            .filter_map(|node| Document::read(file, node, mistakes))
            .collect(),
        Err(error) => {
            let message = format!("not YAML: {}", error.message);
            mistakes.push(Mistake::new(&file.path, error.line, String::new(), message));
            Vec::new()
        }
    }
}

// === impl Document ===

impl<'a> Document<'a> {
    fn read(file: &'a ManifestFile, node: Node, mistakes: &mut Vec<Mistake>) -> Option<Self> {
        let kind = known_kind(file, &node, mistakes)?;
        let metadata = node.get("metadata");
        let text = |field| Some(metadata?.get(field)?.text()?.to_owned());
        let mut document = Self {
            file,
            kind,
            name: text("name").unwrap_or_default(),
            namespace: text("namespace"),
            resource: None,
            node,
        };
        let mut violations = Vec::new();
        let schema = match document.kind.as_str() {
            CONFIG_MAP => &*CONFIG_MAP_SCHEMA,
            kind => &SCHEMAS[kind],
        };
        schema::check(schema, &document.node, "", &mut violations);
        if violations.is_empty() {
            document.resource = document.typed(mistakes);
        }
        for violation in violations {
            let place = document.place(&violation.path);
            mistakes.push(Mistake::new(
                &file.path,
                violation.line,
                place,
                violation.message,
            ));
        }
        Some(document)
    }

    fn typed(&self, mistakes: &mut Vec<Mistake>) -> Option<Resource> {
        match self.kind.as_str() {
            "ModelDeployment" => {
                (self.deserialize(mistakes)).map(|model| Resource::Model(Box::new(model)))
            }
            "Plan" => self.deserialize(mistakes).map(Resource::Plan),
            CONFIG_MAP => (self.deserialize::<ConfigMap>(mistakes))
                .map(|map| Resource::ConfigMap(map.data.unwrap_or_default())),
            _ => self.deserialize(mistakes).map(Resource::Key),
        }
    }

    /// Converts a document that the schema allows. What a schema cannot express, such as whether a date exists, the types
    /// check here.
    fn deserialize<T: DeserializeOwned>(&self, mistakes: &mut Vec<Mistake>) -> Option<T> {
        serde_path_to_error::deserialize(self.node.to_json())
            .map_err(|error| {
                let path = error.path().to_string();
                mistakes.push(self.mistake(&path, error.into_inner().to_string()));
            })
            .ok()
    }

    /// A mistake in the field at `path`.
    pub(crate) fn mistake(&self, path: &str, message: String) -> Mistake {
        Mistake::new(&self.file.path, self.line(path), self.place(path), message)
    }

    /// The line on which the document starts.
    pub(crate) fn first_line(&self) -> u64 {
        self.node.line
    }

    /// The line of the field at `path`, or of its nearest parent that exists.
    fn line(&self, path: &str) -> u64 {
        let mut node = &self.node;
        for step in path.split(['.', '[']) {
            let next = match step.strip_suffix(']').map(str::parse) {
                Some(Ok(index)) => node.item(index),
                _ => node.get(step),
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node.line
    }

    fn place(&self, path: &str) -> String {
        let Self { kind, name, .. } = self;
        match (name.as_str(), path) {
            ("", "") => kind.clone(),
            ("", path) => format!("{kind}: {path}"),
            (name, "") => format!("{kind} {name}"),
            (name, path) => format!("{kind} {name}: {path}"),
        }
    }
}

/// The kind of a document; a mistake is reported if it is not one of ours.
fn known_kind(file: &ManifestFile, node: &Node, mistakes: &mut Vec<Mistake>) -> Option<String> {
    let mut report = |line, place: &str, message| {
        mistakes.push(Mistake::new(&file.path, line, place.to_owned(), message));
    };
    let field = |name: &str| node.get(name);
    let kinds = || listed(SCHEMAS.keys().map(String::as_str));
    match (field("apiVersion"), field("kind")) {
        (_, None) => {
            let message = format!("missing: expected {} (of {API_VERSION})", kinds());
            report(node.line, "kind", message);
            None
        }
        (None, Some(_)) => {
            report(
                node.line,
                "apiVersion",
                format!("missing: expected {API_VERSION}"),
            );
            None
        }
        (Some(version), Some(kind))
            if version.text() == Some(CONFIG_MAP_VERSION) && kind.text() == Some(CONFIG_MAP) =>
        {
            Some(CONFIG_MAP.to_owned())
        }
        (Some(version), Some(_)) if version.text() != Some(API_VERSION) => {
            let message = format!("expected {API_VERSION}, found {version}");
            report(version.line, "apiVersion", message);
            None
        }
        (Some(_), Some(kind)) => {
            let known = kind.text().filter(|kind| SCHEMAS.contains_key(*kind));
            if known.is_none() {
                report(
                    kind.line,
                    "kind",
                    format!("expected {}, found {kind}", kinds()),
                );
            }
            known.map(str::to_owned)
        }
    }
}
