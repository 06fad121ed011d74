//! Who may reach a worker: routers, operators, and what scrapes metrics.

use serde_json::{Value, json};

use super::{METRICS_PORT, selector};
use crate::names::GRPC_PORT;
use crate::validate::Validated;

/// The API server sets this label of every namespace to the namespace's name, and refuses to change it.
const NAME_OF_A_NAMESPACE: &str = "kubernetes.io/metadata.name";

pub(super) fn policy(model: &Validated) -> Value {
    // A tenant who makes pods chooses their labels, so a label proves nothing without the namespace.
    let callers = |name: &str| {
        json!({
            "namespaceSelector": { "matchExpressions": [{
                "key": NAME_OF_A_NAMESPACE, "operator": "In", "values": model.router_namespaces,
            }] },
            "podSelector": { "matchLabels": { "app.kubernetes.io/name": name } },
        })
    };
    let scrapers: Vec<Value> = if model.scraper_namespaces.is_empty() {
        vec![json!({ "namespaceSelector": {} })]
    } else {
        let names = model.scraper_namespaces.iter();
        let peers = names.map(
            |name| json!({ "namespaceSelector": { "matchLabels": { NAME_OF_A_NAMESPACE: name } } }),
        );
        peers.collect()
    };
    json!({
        "podSelector": { "matchLabels": selector(model) },
        "policyTypes": ["Ingress"],
        "ingress": [
            {
                "from": [callers("inferyard-router"), callers("inferyard-operator")],
                "ports": [{ "port": GRPC_PORT, "protocol": "TCP" }],
            },
            {
                "from": scrapers,
                "ports": [{ "port": METRICS_PORT, "protocol": "TCP" }],
            },
        ],
    })
}
