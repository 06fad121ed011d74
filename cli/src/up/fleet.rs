//! Which children there are, and the command line of each.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::ValueEnum;
use inferyard_discovery::{ManifestFile, Manifests, ModelManifest, Weights};
use inferyard_router::catalog::Endpoint;

use super::Args;
use super::keys::Issued;
use super::part::{Part, RouterListen};
use crate::scratch::Scratch;
use crate::worker::engine;
use crate::{builtin, duration};

/// All children.
pub(super) struct Fleet {
    pub(super) router: Arc<Part>,
    pub(super) workers: Vec<Worker>,
}

/// A worker and where it is reached.
#[derive(Clone)]
pub(super) struct Worker {
    pub(super) part: Arc<Part>,
    /// Canonical name of its model.
    pub(super) model: Arc<str>,
    pub(super) endpoint: Endpoint,
}

// === impl Fleet ===

impl Fleet {
    /// One router, and a worker per replica.
    pub(super) fn plan(
        args: &Args,
        files: &[ManifestFile],
        manifests: &Manifests,
        key: Option<&Issued>,
        scratch: &Scratch,
    ) -> anyhow::Result<Self> {
        let mut workers = Vec::new();
        for model in &manifests.models {
            for replica in 0..model.replicas {
                let socket = scratch.socket(workers.len());
                workers.push(worker(args, model, replica, socket, scratch));
            }
        }
        let copies = copy_manifests(files, scratch)?;
        let router = router(args, &copies, &workers, key);
        Ok(Self {
            router: Arc::new(router),
            workers,
        })
    }
}

/// The router reads what was checked, also when it is started again after the files have changed.
/// A model's age is that of its file, so the copies keep it.
fn copy_manifests(files: &[ManifestFile], scratch: &Scratch) -> anyhow::Result<Vec<PathBuf>> {
    let copy = |(index, manifest): (usize, &ManifestFile)| {
        let path = scratch.path().join(format!("{index}.yaml"));
        let mut file = File::create(&path)?;
        file.write_all(manifest.text.as_bytes())?;
        file.set_modified(manifest.modified)?;
        Ok(path)
    };
    let copies = files.iter().enumerate().map(copy);
    copies
        .collect::<std::io::Result<_>>()
        .context("cannot copy the manifests")
}

fn worker(
    args: &Args,
    model: &ModelManifest,
    replica: u32,
    socket: PathBuf,
    scratch: &Scratch,
) -> Worker {
    let mut flags = vec!["worker".into(), "--model".into(), (*model.name).into()];
    match &model.weights {
        Weights::File(path) => flags.extend(["--gguf".into(), path.into()]),
        Weights::Builtin(model) => {
            flags.extend(["--builtin".into(), builtin::name(*model).into()]);
            flags.extend(["--scratch".into(), scratch.path().into()]);
        }
    }
    flags.extend(engine::flags(&model.engine).into_iter().map(OsString::from));
    flags.extend(["--listen".into(), unix(&socket)]);
    flags.extend(common(args));
    let name = format!("worker {}-{replica}", model.resource);
    Worker {
        part: Arc::new(Part::new(name, flags, None)),
        model: model.name.clone(),
        endpoint: Endpoint::Unix(socket),
    }
}

fn router(args: &Args, manifests: &[PathBuf], workers: &[Worker], key: Option<&Issued>) -> Part {
    let mut flags = vec!["router".into(), "--json".into()];
    for manifest in manifests {
        flags.extend(["--file".into(), manifest.into()]);
    }
    for Worker {
        model, endpoint, ..
    } in workers
    {
        let mut served = OsString::from(format!("{model}="));
        match endpoint {
            Endpoint::Tcp(address) => served.push(&**address),
            Endpoint::Unix(path) => served.push(unix(path)),
        }
        flags.extend(["--worker".into(), served]);
    }
    for hash in key.iter().flat_map(|key| &key.hashes) {
        flags.extend(["--key-hash".into(), hash.into()]);
    }
    flags.extend(common(args));
    let listen = RouterListen::new(args.listen, args.metrics_listen);
    Part::new("router".to_owned(), flags, Some(listen))
}

/// What every child is told.
fn common(args: &Args) -> Vec<OsString> {
    let format = args.logs.log_format.to_possible_value();
    let format = format.expect("every format should have a name");
    let mut flags: Vec<OsString> = vec![
        "--exit-with-parent".into(),
        "--drain-timeout".into(),
        duration::argument(args.drain_timeout).into(),
        "--log".into(),
        args.logs.log.as_str().into(),
        "--log-format".into(),
        format.get_name().into(),
    ];
    if let Some(endpoint) = &args.logs.otlp_endpoint {
        flags.extend(["--otlp-endpoint".into(), endpoint.into()]);
    }
    flags
}

fn unix(socket: &Path) -> OsString {
    let mut address = OsString::from("unix:");
    address.push(socket);
    address
}
