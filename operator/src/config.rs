//! What an operator is started with.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use inferyard_crds::Platform;

/// What an operator is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// The namespaces whose resources it looks after; empty: all.
    pub namespaces: Vec<String>,
    /// The namespaces of the platform, whose Plans may do what others may not.
    pub platform: Platform,
    /// The namespaces of routers and operators: workers admit gRPC connections from these only.
    pub router_namespaces: Vec<String>,
    /// The image of workers.
    pub image: String,
    /// Accelerators by the name of their class.
    pub classes: BTreeMap<String, AcceleratorClass>,
    /// Namespaces whose pods may scrape the metrics of workers; empty: those of all.
    pub scraper_namespaces: Vec<String>,
    /// The release that it belongs to, as `namespace/name`: another release may look after other namespaces.
    pub release: String,
    /// Where the Lease is that decides which of several operators of the release works.
    pub lease_namespace: String,
    /// What that Lease is called.
    pub lease_name: String,
    /// What this operator is called in the Lease.
    pub identity: String,
    /// How the cluster is reached; None: by the pod's service account, elsewhere as kubectl does.
    pub kubeconfig: Option<PathBuf>,
    /// Where metrics and probes are served; None: nowhere.
    pub metrics: Option<SocketAddr>,
}

/// What a release is called in its namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseName(String);

/// The longest name that Helm takes.
const LONGEST_RELEASE: usize = 53;

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

// === impl ReleaseName ===

impl ReleaseName {
    /// What the release is known by in the whole cluster.
    #[must_use]
    pub fn within(&self, namespace: &str) -> String {
        format!("{namespace}/{}", self.0)
    }

    /// The Lease that its operators compete for.
    #[must_use]
    pub fn lease(&self) -> String {
        format!("{}-operator", self.0)
    }
}

/// The name of a Lease begins with it.
impl FromStr for ReleaseName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let inside = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
        let outside = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = text.as_bytes();
        let fits = bytes.len() <= LONGEST_RELEASE
            && bytes.iter().all(inside)
            && outside(bytes.first())
            && outside(bytes.last());
        if !fits {
            return Err(format!(
                "expected at most {LONGEST_RELEASE} lower-case letters, digits, - and ., first and last a letter or a digit"
            ));
        }
        Ok(Self(text.to_owned()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_called_what_a_lease_may_be_called() {
        let named: ReleaseName = "inferyard".parse().unwrap();
        assert_eq!(named.within("models"), "models/inferyard");
        assert_eq!(named.lease(), "inferyard-operator");
        let longest = "a".repeat(LONGEST_RELEASE);
        for good in ["a", "v1.2-b", &longest] {
            assert!(good.parse::<ReleaseName>().is_ok(), "{good}");
        }
        let longer = "a".repeat(LONGEST_RELEASE + 1);
        for bad in ["", "-a", "a.", "A", "a/b", "a b", &longer] {
            assert!(bad.parse::<ReleaseName>().is_err(), "{bad}");
        }
    }
}
