//! The configuration of an operator.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use inferyard_crds::Platform;

/// The configuration of an operator.
#[derive(Debug, Clone)]
pub struct Config {
    /// The namespaces whose resources the operator manages. Empty: all namespaces.
    pub namespaces: Vec<String>,
    /// The namespaces of the platform. Only Plans there may set some fields.
    pub platform: Platform,
    /// The namespaces of routers and operators. Workers accept gRPC connections only from these.
    pub router_namespaces: Vec<String>,
    /// The image of the workers.
    pub image: String,
    /// The classes of accelerators by name.
    pub classes: BTreeMap<String, AcceleratorClass>,
    /// The namespaces whose pods may scrape the metrics of workers. Empty: all namespaces.
    pub scraper_namespaces: Vec<String>,
    /// The release of the operator, as `namespace/name`. Another release may manage other namespaces.
    pub release: String,
    /// The namespace of the Lease that elects the leader among the operators of the release.
    pub lease_namespace: String,
    /// The name of that Lease.
    pub lease_name: String,
    /// The name of this operator in the Lease.
    pub identity: String,
    /// The path of a kubeconfig. None: the service account of the pod, or outside of a pod the kubeconfig of kubectl.
    pub kubeconfig: Option<PathBuf>,
    /// The address for metrics and probes. None: they are not served.
    pub metrics: Option<SocketAddr>,
}

/// The name of a release in its namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseName(String);

/// The longest name of a release in Helm, in characters.
const LONGEST_RELEASE: usize = 53;

/// A class of accelerators that a platform offers by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceleratorClass {
    /// The extended resource that nodes advertise.
    pub resource: String,
    /// The labels of the nodes that have these accelerators.
    pub node_labels: BTreeMap<String, String>,
}

// === impl Config ===

impl Config {
    /// The classes without configuration: `nvidia` and `amd`.
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
    /// The name of the release in the cluster, as `namespace/name`.
    #[must_use]
    pub fn within(&self, namespace: &str) -> String {
        format!("{namespace}/{}", self.0)
    }

    /// The name of the Lease that elects the leader among its operators.
    #[must_use]
    pub fn lease(&self) -> String {
        format!("{}-operator", self.0)
    }
}

/// A release name is a prefix of the name of a Lease, which limits its characters.
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
    fn a_release_name_is_valid_in_the_name_of_a_lease() {
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
