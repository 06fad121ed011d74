//! The sources of the weights of a model.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The source of the weights of a model. Set exactly one of the fields.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[schemars(transform = crate::exactly_one::exactly_one)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// Model that is included in Inferyard. It needs no download.
    Builtin(BuiltinSource),
    /// File on the machine of the worker. In a cluster: an absolute path in the container of the worker, on a volume
    /// that `podTemplate` mounts there.
    File(FileSource),
    /// Repository on Hugging Face, or on a server with the same protocol. Only in a cluster.
    HuggingFace(HuggingFaceSource),
    /// Single file at an HTTP or HTTPS address. Only in a cluster.
    Http(HttpSource),
    /// Existing PersistentVolumeClaim that holds the weights. It is mounted read-only. Only in a cluster.
    Pvc(PvcSource),
    /// OCI image that holds the weights. It is mounted as a volume, which needs Kubernetes 1.35 or the feature gate
    /// `ImageVolume`. Only in a cluster.
    Image(ImageSource),
}

/// A model that is included in Inferyard.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BuiltinSource {
    /// Name of the model.
    pub name: BuiltinModel,
}

/// The models that are included in Inferyard.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum BuiltinModel {
    /// A tiny chat model for trials and tests.
    Demo,
}

/// A file on the machine of the worker.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FileSource {
    /// Path of a GGUF file. A path that does not start with `/` is relative to the folder of the manifest, or to the
    /// current folder if the manifest is not a file. Limit: 4096 characters.
    #[schemars(length(min = 1, max = 4096))]
    pub path: String,
}

/// A repository on Hugging Face.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HuggingFaceSource {
    /// Owner and name of the repository, such as `Qwen/Qwen3-8B-GGUF`.
    #[schemars(schema_with = "repository")]
    pub repo: String,
    /// Branch, tag or commit of the repository. Only a commit never changes. Default: `main`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "revision")]
    pub revision: Option<String>,
    /// Patterns of the files to download, such as `*Q4_K_M*.gguf`. For the embedded engine the patterns must select one
    /// GGUF file, or all parts of a split one. Default: all files. Limit: 32 patterns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "globs")]
    pub include: Vec<String>,
    /// Address of the server. Default: `https://huggingface.co`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "url")]
    pub endpoint: Option<String>,
    /// Entry of a Secret with an access token, for repositories that are not public. Default: no token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret: Option<SecretKey>,
}

/// A single file at an HTTP or HTTPS address.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HttpSource {
    /// Address of the file, without a password.
    #[schemars(schema_with = "url")]
    pub url: String,
    /// SHA-256 checksum of the file, as 64 lower-case hexadecimal digits. If it is absent, only the size of the file is
    /// checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "digest")]
    pub sha256: Option<String>,
    /// Entry of a Secret whose value is sent as `Authorization: Bearer …`. Default: no such header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretKey>,
}

/// An existing PersistentVolumeClaim that holds the weights.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PvcSource {
    /// Name of the PersistentVolumeClaim in the namespace of the ModelDeployment.
    #[schemars(schema_with = "crate::object_name")]
    pub claim_name: String,
    /// Path of the file or folder inside of the volume. Default: the root of the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "path_inside")]
    pub path: Option<String>,
}

/// An OCI image that holds the weights.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ImageSource {
    /// Reference of the image, preferably with its digest. Limit: 1024 characters.
    #[schemars(length(min = 1, max = 1024))]
    pub reference: String,
    /// Path of the file or folder inside of the volume. Default: the root of the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "path_inside")]
    pub path: Option<String>,
    /// When nodes pull the image. Default: `Always` for the tag `latest`, otherwise `IfNotPresent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_policy: Option<PullPolicy>,
}

/// When nodes pull an image.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// At each start of a pod.
    Always,
    /// If the node does not have the image.
    IfNotPresent,
    /// Never. The node must have the image.
    Never,
}

/// An entry of a Secret in the namespace of the resource.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretKey {
    /// Name of the Secret.
    #[schemars(schema_with = "crate::object_name")]
    pub name: String,
    /// Key of the entry in the Secret.
    #[schemars(schema_with = "entry")]
    pub key: String,
}

// === impl PullPolicy ===

impl PullPolicy {
    /// The name that Kubernetes uses.
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
