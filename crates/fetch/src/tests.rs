//! Fetching from real servers that misbehave in every way that real servers do.

mod server;
mod hub;
mod plain;
mod watched;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::{BackoffPolicy, Config, Done, Fetch, FetchError, Http, HuggingFace, Plain, Source};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use server::{Asked, Reply, Server};

/// Patience with a loaded machine.
const PATIENCE: Duration = Duration::from_mins(5);
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A file's bytes, no two blocks of them the same.
fn content(size: usize, seed: u8) -> Vec<u8> {
    let block = |index: usize| Sha256::digest([&index.to_le_bytes()[..], &[seed]].concat());
    let mut bytes: Vec<u8> = (0..size.div_ceil(32)).flat_map(block).collect();
    bytes.truncate(size);
    bytes
}

fn sha256(bytes: &[u8]) -> String {
    crate::checksum::of(bytes)
}

fn config(source: Source, to: &Path) -> Config {
    let http = Http::new(reqwest::Client::builder().no_proxy(), |_| false).unwrap();
    let backoff = BackoffPolicy {
        first: Duration::from_millis(2),
        longest: Duration::from_millis(20),
    };
    Config {
        source,
        to: to.to_owned(),
        http,
        backoff,
    }
}

fn hub(server: &Server) -> HuggingFace {
    HuggingFace {
        endpoint: server.url.parse().unwrap(),
        repo: "acme/tiny".parse().unwrap(),
        revision: "main".parse().unwrap(),
        include: Vec::new(),
        token: None,
    }
}

fn plain(server: &Server, sha256: Option<&str>) -> Source {
    Source::Plain(Plain {
        url: format!("{}/files/model.gguf", server.url).parse().unwrap(),
        sha256: sha256.map(|text| text.parse().unwrap()),
        token: None,
    })
}

async fn fetch(source: Source, to: &Path) -> Result<Done, FetchError> {
    fetch_until(source, to, CancellationToken::new()).await
}

async fn fetch_until(
    source: Source,
    to: &Path,
    stop: CancellationToken,
) -> Result<Done, FetchError> {
    let fetch = Fetch::bind(config(source, to), None).await.unwrap();
    timeout(PATIENCE, fetch.run(stop))
        .await
        .expect("it should end")
}

/// Names and bytes of all files but ours.
fn files(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name == ".inferyard-fetch" {
            continue;
        }
        if path.is_dir() {
            names.extend(
                files(&path)
                    .into_iter()
                    .map(|below| format!("{name}/{below}")),
            );
        } else {
            names.push(name);
        }
    }
    names.sort();
    names
}
