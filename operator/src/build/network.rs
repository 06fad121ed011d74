//! Who may reach a worker: routers, operators, and what scrapes metrics.

use serde_json::{Value, json};

use super::{GRPC_PORT, METRICS_PORT, selector};
use crate::validate::Validated;

pub(super) fn policy(model: &Validated) -> Value {
    let anywhere = |name: &str| {
        json!({
            "namespaceSelector": {},
            "podSelector": { "matchLabels": { "app.kubernetes.io/name": name } },
        })
    };
    let scrapers: Vec<Value> = if model.scraper_namespaces.is_empty() {
        vec![json!({ "namespaceSelector": {} })]
    } else {
        let names = model.scraper_namespaces.iter();
        let peers = names.map(|name| {
            json!({
                "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": name } },
            })
        });
        peers.collect()
    };
    json!({
        "podSelector": { "matchLabels": selector(model) },
        "policyTypes": ["Ingress"],
        "ingress": [
            {
                "from": [anywhere("inferyard-router"), anywhere("inferyard-operator")],
                "ports": [{ "port": GRPC_PORT, "protocol": "TCP" }],
            },
            {
                "from": scrapers,
                "ports": [{ "port": METRICS_PORT, "protocol": "TCP" }],
            },
        ],
    })
}
