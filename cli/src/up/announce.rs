//! What is printed when the first request can be sent.

use std::io::{self, Write};
use std::net::SocketAddr;

use inferyard_discovery::Manifests;
use serde::Serialize;

use super::Output;
use super::fleet::Fleet;
use super::keys::Issued;
use super::probe::reachable;
use crate::router::Addresses;

/// What is known before anything runs.
pub(super) struct Announcement {
    models: Vec<String>,
    key: Option<String>,
    output: Output,
}

/// The line for programs.
#[derive(Serialize)]
struct Line<'a> {
    base_url: String,
    /// Null where the manifests declare the keys: then nobody here knows one.
    api_key: Option<&'a str>,
    models: &'a [String],
    metrics_url: Option<String>,
    router_pid: u32,
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
    pub(super) fn new(manifests: &Manifests, key: Option<Issued>, output: Output) -> Self {
        let names = manifests
            .models
            .iter()
            .flat_map(|model| std::iter::once(&model.name).chain(&model.aliases));
        Self {
            models: names.map(ToString::to_string).collect(),
            key: key.map(|key| key.text),
            output,
        }
    }

    /// Prints it.
    pub(super) fn print(&self, addresses: Addresses, fleet: &Fleet) -> io::Result<()> {
        let text = match self.output {
            Output::Text => self.text(addresses),
            Output::Json => self.json(addresses, fleet)? + "\n",
        };
        let mut output = io::stdout().lock();
        output.write_all(text.as_bytes())?;
        output.flush()
    }

    fn json(&self, addresses: Addresses, fleet: &Fleet) -> serde_json::Result<String> {
        let Fleet { router, workers } = fleet;
        serde_json::to_string(&Line {
            base_url: base_url(addresses.address),
            api_key: self.key.as_deref(),
            models: &self.models,
            metrics_url: addresses.metrics_address.map(metrics_url),
            router_pid: router.pid(),
            workers: workers
                .iter()
                .map(|worker| LineOfWorker {
                    name: worker.part.name.trim_start_matches("worker "),
                    model: &worker.model,
                    address: worker.endpoint.to_string(),
                    pid: worker.part.pid(),
                })
                .collect(),
        })
    }

    fn text(&self, addresses: Addresses) -> String {
        let url = base_url(addresses.address);
        let key = match &self.key {
            Some(key) => format!("{key}   (new; only its hash is kept)"),
            None => "one of those that the manifests declare".to_owned(),
        };
        let models = self.models.join(", ");
        let metrics = match addresses.metrics_address {
            Some(address) => format!("\n  Metrics    {}", metrics_url(address)),
            None => String::new(),
        };
        format!(
            "\nInferyard is ready.\n\n  Endpoint   {url}\n  API key    {key}\n  Models     {models}{metrics}\n\n\
             Try it:\n\n{}\n\nCtrl-C stops it.\n",
            self.curl(&url)
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

fn base_url(address: SocketAddr) -> String {
    format!("http://{}/v1", reachable(address))
}

fn metrics_url(address: SocketAddr) -> String {
    format!("http://{}/metrics", reachable(address))
}
