//! The NetworkPolicy of a worker: routers and operators may call it, and scrapers may read its metrics.

use std::collections::BTreeMap;

use inferyard_crds::{
    APPLICATION_LABEL, OPERATOR_APPLICATION, ROUTER_APPLICATION, WORKER_GRPC_PORT,
    WORKER_METRICS_PORT,
};
use k8s_openapi::api::networking::v1::{
    NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::selector;
use crate::validate::Validated;

/// The API server sets this label of each namespace to the name of the namespace and rejects changes to it.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

pub(super) fn policy(model: &Validated) -> NetworkPolicySpec {
    let callers = [ROUTER_APPLICATION, OPERATOR_APPLICATION];
    let callers = callers.map(|application| caller(model, application));
    NetworkPolicySpec {
        pod_selector: Some(selector(model)),
        policy_types: Some(vec!["Ingress".to_owned()]),
        ingress: Some(vec![
            rule(callers.into(), WORKER_GRPC_PORT),
            rule(scrapers(model), WORKER_METRICS_PORT),
        ]),
        ..NetworkPolicySpec::default()
    }
}

fn rule(from: Vec<NetworkPolicyPeer>, port: u16) -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule {
        from: Some(from),
        ports: Some(vec![NetworkPolicyPort {
            port: Some(IntOrString::Int(port.into())),
            protocol: Some("TCP".to_owned()),
            ..NetworkPolicyPort::default()
        }]),
    }
}

/// Pods of one application in the namespaces of the routers. A tenant chooses the labels of its pods, so a pod label
/// proves nothing without the namespace.
fn caller(model: &Validated, application: &str) -> NetworkPolicyPeer {
    let namespaces = LabelSelectorRequirement {
        key: NAMESPACE_NAME.to_owned(),
        operator: "In".to_owned(),
        values: Some(model.router_namespaces.clone()),
    };
    NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector {
            match_expressions: Some(vec![namespaces]),
            ..LabelSelector::default()
        }),
        pod_selector: Some(labelled(APPLICATION_LABEL, application)),
        ..NetworkPolicyPeer::default()
    }
}

/// The namespaces that may read metrics; all of them if none is configured.
fn scrapers(model: &Validated) -> Vec<NetworkPolicyPeer> {
    let peer = |namespace_selector| NetworkPolicyPeer {
        namespace_selector: Some(namespace_selector),
        ..NetworkPolicyPeer::default()
    };
    if model.scraper_namespaces.is_empty() {
        return vec![peer(LabelSelector::default())];
    }
    let names = model.scraper_namespaces.iter();
    names
        .map(|name| peer(labelled(NAMESPACE_NAME, name)))
        .collect()
}

fn labelled(label: &str, value: &str) -> LabelSelector {
    LabelSelector {
        match_labels: Some(BTreeMap::from([(label.to_owned(), value.to_owned())])),
        ..LabelSelector::default()
    }
}
