//! What is printed when the first request can be sent.

use std::io::{self, Write};
use std::net::SocketAddr;

use inferyard_manifests::Manifests;
use serde::Serialize;

use super::Output;
use super::bootstrap_keys::Issued;
use super::fleet::Fleet;
use super::probe::reachable;
use crate::router::Addresses;

/// What is known before any process runs.
pub(super) struct Announcement {
    models: Vec<String>,
    key: Option<String>,
    admin_key: String,
    output: Output,
}

/// The line for programs.
#[derive(Serialize)]
struct Line<'a> {
    /// The first of `base_urls`.
    base_url: &'a str,
    base_urls: &'a [String],
    /// Null where the manifests declare the keys: then only their hashes are known.
    api_key: Option<&'a str>,
    admin_key: &'a str,
    models: &'a [String],
    /// The first of `metrics_urls`.
    metrics_url: Option<&'a str>,
    metrics_urls: Vec<String>,
    /// The first of `router_pids`.
    router_pid: u32,
    router_pids: Vec<u32>,
    /// Null where the router hosts the ledger.
    ledger_pid: Option<u32>,
    /// What `inferyard usage --store` takes.
    store: &'a str,
    workers: Vec<LineOfWorker<'a>>,
}

#[derive(Serialize)]
struct LineOfWorker<'a> {
    name: &'a str,
    model: &'a str,
    /// What `inferyard watch` takes.
    address: String,
    pid: u32,
}

// === impl Announcement ===

impl Announcement {
    pub(super) fn new(
        manifests: &Manifests,
        key: Option<Issued>,
        admin_key: Issued,
        output: Output,
    ) -> Self {
        let names = manifests
            .models
            .iter()
            .flat_map(|model| std::iter::once(&model.name).chain(&model.aliases));
        Self {
            models: names.map(ToString::to_string).collect(),
            key: key.map(|key| key.text),
            admin_key: admin_key.text,
            output,
        }
    }

    /// Prints it. The addresses are those of the routers, in their order.
    pub(super) fn print(&self, addresses: &[Addresses], fleet: &Fleet) -> io::Result<()> {
        let urls: Vec<_> = addresses
            .iter()
            .map(|addresses| base_url(addresses.address))
            .collect();
        let metrics = addresses
            .iter()
            .filter_map(|addresses| addresses.metrics_address.map(metrics_url))
            .collect();
        let text = match self.output {
            Output::Text => self.text(&urls, metrics, &fleet.store),
            Output::Json => self.json(&urls, metrics, fleet)? + "\n",
        };
        let mut output = io::stdout().lock();
        output.write_all(text.as_bytes())?;
        output.flush()
    }

    fn json(
        &self,
        base_urls: &[String],
        metrics_urls: Vec<String>,
        fleet: &Fleet,
    ) -> serde_json::Result<String> {
        let workers = fleet.workers.iter().map(|worker| LineOfWorker {
            name: worker.process.name.trim_start_matches("worker "),
            model: &worker.model,
            address: worker.endpoint.to_string(),
            pid: worker.process.pid(),
        });
        let router_pids: Vec<_> = fleet.routers.iter().map(|router| router.pid()).collect();
        serde_json::to_string(&Line {
            base_url: first(base_urls),
            base_urls,
            api_key: self.key.as_deref(),
            admin_key: &self.admin_key,
            models: &self.models,
            metrics_url: metrics_urls.first().cloned().as_deref(),
            metrics_urls,
            router_pid: router_pids.first().copied().unwrap_or(0),
            router_pids,
            ledger_pid: fleet.ledger.as_ref().map(|ledger| ledger.pid()),
            store: &fleet.store,
            workers: workers.collect(),
        })
    }

    fn text(&self, urls: &[String], metrics: Vec<String>, store: &str) -> String {
        let key = match &self.key {
            Some(key) => format!("{key}   (new; only its hash is kept)"),
            None => "one of those that the manifests declare".to_owned(),
        };
        let rows = [
            ("Endpoint", urls.to_vec()),
            ("API key", vec![key]),
            (
                "Admin key",
                vec![format!("{}   (new; for /v1/organization)", self.admin_key)],
            ),
            ("Models", vec![self.models.join(", ")]),
            ("Metrics", metrics),
        ];
        let rows: String = rows
            .iter()
            .flat_map(|(name, values)| {
                let names = std::iter::once(*name).chain(std::iter::repeat(""));
                names
                    .zip(values)
                    .map(|(name, value)| format!("  {name:<10} {value}\n"))
            })
            .collect();
        format!(
            "\nInferyard is ready.\n\n{rows}\nTry it:\n\n{}\n\nWho used what:\n\n{}\n\nCtrl-C stops it.\n",
            self.curl(first(urls)),
            usage(store)
        )
    }

    /// Works when pasted into a shell.
    fn curl(&self, url: &str) -> String {
        let key = self.key.as_deref().unwrap_or("$INFERYARD_API_KEY");
        let model = self.models.first().map_or("demo", String::as_str);
        format!(
            "curl {url}/chat/completions \\\n  -H \"Authorization: Bearer {key}\" \\\n  \
             -H \"Content-Type: application/json\" \\\n  -d '{{\"model\": \"{model}\", \"messages\": \
             [{{\"role\": \"user\", \"content\": \"Reply with: payload verified.\"}}]}}'"
        )
    }
}

/// Works when pasted into a shell.
fn usage(store: &str) -> String {
    let store = store.replace('\'', "'\\''");
    format!("inferyard usage --store '{store}' --by key --day")
}

/// There is at least one router.
fn first(urls: &[String]) -> &str {
    urls.first().map_or("", String::as_str)
}

fn base_url(address: SocketAddr) -> String {
    format!("http://{}/v1", reachable(address))
}

fn metrics_url(address: SocketAddr) -> String {
    format!("http://{}/metrics", reachable(address))
}
