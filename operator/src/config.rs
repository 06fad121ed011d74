//! What an operator is started with.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// What an operator is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// The namespaces whose resources it looks after; empty: all.
    pub namespaces: Vec<String>,
    /// The image of workers.
    pub image: String,
    /// Accelerators by the name of their class.
    pub classes: BTreeMap<String, AcceleratorClass>,
    /// Namespaces whose pods may scrape the metrics of workers; empty: those of all.
    pub scraper_namespaces: Vec<String>,
    /// Where the Lease is that decides which of several operators works.
    pub lease_namespace: String,
    /// What this operator is called in the Lease.
    pub identity: String,
    /// How the cluster is reached; None: by the pod's service account, elsewhere as kubectl does.
    pub kubeconfig: Option<PathBuf>,
    /// Where metrics and probes are served; None: nowhere.
    pub metrics: Option<SocketAddr>,
}

/// A kind of accelerator that a platform offers by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceleratorClass {
    /// The resource that nodes advertise.
    pub resource: String,
    /// Labels of the nodes that have it.
    pub node_labels: BTreeMap<String, String>,
}

// === impl Config ===

impl Config {
    /// The classes that need no setting.
    #[must_use]
    pub fn usual_classes() -> BTreeMap<String, AcceleratorClass> {
        let usual = [("nvidia", "nvidia.com/gpu"), ("amd", "amd.com/gpu")];
        let classes = usual.map(|(name, resource)| {
            let class = AcceleratorClass {
                resource: resource.to_owned(),
                node_labels: BTreeMap::new(),
            };
            (name.to_owned(), class)
        });
        classes.into()
    }
}

// === impl AcceleratorClass ===

/// `RESOURCE[,LABEL=VALUE]…`
impl FromStr for AcceleratorClass {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let resource = parts.next().unwrap_or_default();
        if !resource.contains('/') {
            return Err("expected a resource such as nvidia.com/gpu".to_owned());
        }
        let labels = parts.map(|label| {
            let (name, value) = (label.split_once('='))
                .ok_or_else(|| format!("expected a node label as NAME=VALUE, found {label:?}"))?;
            Ok((name.to_owned(), value.to_owned()))
        });
        Ok(Self {
            resource: resource.to_owned(),
            node_labels: labels.collect::<Result<_, String>>()?,
        })
    }
}
