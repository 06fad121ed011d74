//! Reads manifest files, checks them against the schemas of a cluster, and links them into the router's
//! [`Catalog`](inferyard_catalog::Catalog).
//!
//! The steps are: files to text ([`read`]), text to trees that know their lines (`yaml`), trees checked against the CRD
//! schemas (`schema`), typed resources (`document`), names resolved ([`Manifests`]), and the catalog (`catalog`).
//!
//! The cluster watcher uses [`check_spec`], [`plan`] and [`key`], so that a cluster and a file obey the same rules.

mod mistake;
mod read;
mod yaml;
mod schema;
mod document;
pub mod plan;
pub mod key;
mod manifests;
mod catalog;
mod text;

pub use document::check_spec;
pub use manifests::{EngineSettings, Manifests, ModelManifest, Weights};
pub use mistake::{Mistake, Mistakes, Report};
pub use read::{ManifestFile, ReadError, read};
pub use schema::Violation;
pub use text::{TextDocument, TextError, text_documents};
