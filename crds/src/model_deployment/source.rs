//! Where the weights of a model come from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the weights of a model come from: exactly one of the sources.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[schemars(transform = crate::exactly_one::exactly_one)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// A model that ships with Inferyard: it needs no download and means the same everywhere.
    Builtin(BuiltinSource),
    /// A file on the machine of the worker. In a cluster: an absolute path in the worker's container, on
    /// a volume that `podTemplate` mounts there.
    File(FileSource),
    /// A repository of Hugging Face, or of a server that speaks its protocol. Only in a cluster.
    HuggingFace(HuggingFaceSource),
    /// One file behind HTTP or HTTPS. Only in a cluster.
    Http(HttpSource),
    /// A volume that holds the weights already, mounted read-only. Only in a cluster.
    Pvc(PvcSource),
    /// An OCI image that holds the weights, mounted as a volume (Kubernetes 1.35, or the feature gate
    /// `ImageVolume`). Only in a cluster.
    Image(ImageSource),
}

/// A model that ships with Inferyard.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BuiltinSource {
    /// Which one.
    pub name: BuiltinModel,
}

/// The models that ship with Inferyard.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum BuiltinModel {
    /// A tiny chat model for trying out and for tests.
    Demo,
}

/// A file on the machine of the worker.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FileSource {
    /// Path of a GGUF file. A path that does not start with `/` is taken from the folder of the
    /// manifest, or from the current folder where the manifest has none.
    #[schemars(length(min = 1, max = 4096))]
    pub path: String,
}

/// A repository of Hugging Face.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HuggingFaceSource {
    /// Owner and name of the repository.
    #[schemars(schema_with = "repository")]
    pub repo: String,
    /// Branch, tag or, to be sure that it never changes, the commit; absent: `main`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "revision")]
    pub revision: Option<String>,
    /// Which files, such as `*Q4_K_M*.gguf`; absent: all. For the embedded engine one GGUF file, or all
    /// parts of a split one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "globs")]
    pub include: Vec<String>,
    /// Address of the server; absent: `https://huggingface.co`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "url")]
    pub endpoint: Option<String>,
    /// The Secret that holds a token, for repositories that are not public.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret: Option<SecretKey>,
}

/// One file behind HTTP or HTTPS.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HttpSource {
    /// Its address.
    #[schemars(schema_with = "url")]
    pub url: String,
    /// SHA-256 that it must have, as 64 lower-case hexadecimal digits; absent: only its size is checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "digest")]
    pub sha256: Option<String>,
    /// The Secret whose value is sent as `Authorization: Bearer …`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretKey>,
}

/// A volume that holds the weights.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PvcSource {
    /// Name of the `PersistentVolumeClaim`, in the namespace of the ModelDeployment.
    #[schemars(schema_with = "crate::object_name")]
    pub claim_name: String,
    /// File or folder in it; absent: its root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "path_inside")]
    pub path: Option<String>,
}

/// An OCI image that holds the weights.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ImageSource {
    /// The image, best with its digest.
    #[schemars(length(min = 1, max = 1024))]
    pub reference: String,
    /// File or folder in it; absent: its root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "path_inside")]
    pub path: Option<String>,
    /// When it is pulled; absent: as Kubernetes does for images of containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_policy: Option<PullPolicy>,
}

/// When an image is pulled.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// At every start of a pod.
    Always,
    /// Where the node does not have it.
    IfNotPresent,
    /// Never: the node must have it.
    Never,
}

/// One entry of a Secret in the namespace of the resource.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretKey {
    /// Name of the Secret.
    #[schemars(schema_with = "crate::object_name")]
    pub name: String,
    /// The entry in it.
    #[schemars(schema_with = "entry")]
    pub key: String,
}

// === impl PullPolicy ===

impl PullPolicy {
    /// As Kubernetes writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

fn repository(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string", "maxLength": 200,
        "pattern": r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$",
        "title": "owner and name of a repository",
        "example": "Qwen/Qwen3-8B-GGUF",
    })
}

fn revision(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string", "maxLength": 200,
        "pattern": r"^[A-Za-z0-9][A-Za-z0-9._/-]*$",
        "title": "a branch, a tag or a commit",
    })
}

fn globs(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array", "maxItems": 32,
        "items": {
            "type": "string", "minLength": 1, "maxLength": 256,
            "pattern": "^[^/-]",
            "title": "a file name with * and ? for what varies",
        },
    })
}

fn url(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string", "maxLength": 2048,
        "pattern": r"^https?://[^\s/@]+(/\S*)?$",
        "title": "an address that starts with https:// or http:// and holds no password",
        "example": "https://example.com/model.gguf",
    })
}

fn digest(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string", "maxLength": 64,
        "pattern": r"^[0-9a-f]{64}$",
        "title": "a SHA-256 as 64 lower-case hexadecimal digits",
    })
}

fn entry(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string", "minLength": 1, "maxLength": 253,
        "pattern": r"^[-._a-zA-Z0-9]+$",
        "title": "the name of an entry of a Secret",
    })
}

/// A path that does not leave the volume.
fn path_inside(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string", "maxLength": 1024,
        "pattern": r"^[^/.][^/]*(/[^/.][^/]*)*$",
        "title": "a path inside the volume, without a leading / and without names that start with a dot",
        "example": "qwen3-8b/model.gguf",
    })
}
