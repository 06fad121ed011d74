//! Turns the outside into the router's [`Catalog`](inferyard_catalog::Catalog).
//!
//! On one machine the outside is files: the way goes from text ([`read`]) over a tree that knows its
//! lines (`yaml`), checked against the very schema that a cluster uses (`schema`), to typed resources
//! whose names refer to each other ([`Manifests`]), to the catalog. In a cluster the outside is the API
//! server ([`Kubernetes`]): the same schemas and rules, but a mistake in one resource leaves the others in
//! force.

mod read;
mod yaml;
mod schema;
mod manifests;
mod mistake;
mod catalog;
mod text;
mod kubernetes;

pub use kubernetes::{ConnectError, Kubernetes, Metrics, Namespaces, Settings};
pub use manifests::{EngineSettings, Manifests, ModelManifest, Weights};
pub use mistake::{Mistake, Mistakes};
pub use read::{ManifestFile, ReadError, read};
pub use text::{TextDocument, TextError, text_documents};
