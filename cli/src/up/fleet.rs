//! Which processes there are, and the command line of each.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::ValueEnum;
use inferyard_catalog::Endpoint;
use inferyard_manifests::{ManifestFile, Manifests, ModelManifest, Weights};

use super::Args;
use super::bootstrap_keys::Issued;
use super::process::{self, CommandLine, ManagedProcess, Role, RouterListen};
use super::state::State;
use crate::failure::Failure;
use crate::scratch::Scratch;
use crate::worker::engine;
use crate::{builtin, duration};

/// All processes.
pub(super) struct Fleet {
    pub(super) routers: Vec<Arc<ManagedProcess>>,
    /// `None`: the only router hosts the ledger.
    pub(super) ledger: Option<Arc<ManagedProcess>>,
    pub(super) workers: Vec<Worker>,
    /// The ledger's database, as `inferyard usage --store` takes it.
    pub(super) store: String,
}

/// A worker and where it is reached.
#[derive(Clone)]
pub(super) struct Worker {
    pub(super) process: Arc<ManagedProcess>,
    /// Canonical name of its model.
    pub(super) model: Arc<str>,
    pub(super) endpoint: Endpoint,
}

/// What the command lines are made from.
pub(super) struct FleetConfig<'a> {
    pub(super) args: &'a Args,
    pub(super) manifests: &'a Manifests,
    /// `None`: the manifests declare the keys.
    pub(super) key: Option<&'a Issued>,
    pub(super) admin_key: &'a Issued,
    pub(super) state: &'a State,
    pub(super) scratch: &'a Scratch,
}

// === impl Fleet ===

impl Fleet {
    /// One worker for each replica, the routers, and with Redis a ledger.
    pub(super) fn new(config: &FleetConfig<'_>, files: &[ManifestFile]) -> Result<Self, Failure> {
        let FleetConfig { args, scratch, .. } = config;
        let mut workers = Vec::new();
        for model in &config.manifests.models {
            for replica in 0..model.replicas {
                let socket = scratch.socket(workers.len());
                workers.push(worker(args, model, replica, socket, scratch));
            }
            write_template(model, scratch)?;
        }
        let copies = copy_manifests(files, scratch)?;
        let routers = (0..args.routers).map(|index| {
            let listen = listen(args, index)?;
            let command = config.router(usize::from(index), &copies, &workers)?;
            let name = match index {
                0 => "router".to_owned(),
                _ => format!("router {}", index + 1),
            };
            let index = index.into();
            Ok(Arc::new(ManagedProcess::new(
                name,
                Role::Router { index, listen },
                command,
            )))
        });
        let ledger = args.redis.is_some().then(|| {
            Arc::new(ManagedProcess::new(
                "ledger".to_owned(),
                Role::Ledger,
                config.ledger(),
            ))
        });
        Ok(Self {
            routers: routers.collect::<Result<_, Failure>>()?,
            ledger,
            workers,
            store: config.store(),
        })
    }

    /// Every process.
    pub(super) fn processes(&self) -> impl Iterator<Item = &Arc<ManagedProcess>> {
        let workers = self.workers.iter().map(|worker| &worker.process);
        self.routers.iter().chain(&self.ledger).chain(workers)
    }
}

/// A fixed port is that of the first router; the others follow it.
fn listen(args: &Args, index: u16) -> Result<RouterListen, Failure> {
    let follow = |flag: &str, first: SocketAddr| {
        let port = match first.port() {
            0 => Some(0),
            port => port.checked_add(index),
        };
        let port = port.ok_or_else(|| {
            let count = args.routers;
            Failure::usage(format!(
                "{flag} {first}: {count} routers need {count} ports from this one on"
            ))
        })?;
        Ok::<_, Failure>(SocketAddr::new(first.ip(), port))
    };
    Ok(RouterListen::new(
        follow("--listen", args.listen)?,
        follow("--metrics-listen", args.metrics_listen)?,
    ))
}

/// Copies the manifests that were checked: a router that is restarted after the files have changed reads the same
/// ones. The copies keep the modification time, which is the age of a model.
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

/// A wrong template is reported here, as a mistake in the manifests, and not by workers that cannot start.
fn write_template(model: &ModelManifest, scratch: &Scratch) -> Result<(), Failure> {
    let Some(template) = &model.chat_template else {
        return Ok(());
    };
    if let Err(error) = inferyard_chat::prompt::check(template) {
        let name = &model.resource;
        return Err(Failure::usage(format!(
            "ModelDeployment {name}: spec.chatTemplate: {error}"
        )));
    }
    let path = template_path(model, scratch);
    fs::write(path, template.as_bytes()).context("cannot write the chat template")?;
    Ok(())
}

fn template_path(model: &ModelManifest, scratch: &Scratch) -> PathBuf {
    scratch.path().join(format!("{}.jinja", model.resource))
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
    if model.chat_template.is_some() {
        let path = template_path(model, scratch);
        flags.extend(["--chat-template".into(), path.into()]);
    }
    flags.extend(["--listen".into(), unix(&socket)]);
    flags.extend(drain_flags(args));
    flags.extend(common_flags(args));
    let name = format!("worker {}-{replica}", model.resource);
    let command = CommandLine {
        flags,
        ..CommandLine::default()
    };
    Worker {
        process: Arc::new(ManagedProcess::new(name, Role::Worker, command)),
        model: model.name.clone(),
        endpoint: Endpoint::Unix(socket),
    }
}

// === impl FleetConfig ===

impl FleetConfig<'_> {
    fn router(
        &self,
        index: usize,
        manifests: &[PathBuf],
        workers: &[Worker],
    ) -> anyhow::Result<CommandLine> {
        let mut flags: Vec<OsString> = vec!["router".into(), "--json".into()];
        for manifest in manifests {
            flags.extend(["--file".into(), manifest.into()]);
        }
        for worker in workers {
            let mut served = OsString::from(format!("{}=", worker.model));
            match &worker.endpoint {
                Endpoint::Tcp(address) => served.push(&**address),
                Endpoint::Unix(path) => served.push(unix(path)),
            }
            flags.extend(["--worker".into(), served]);
        }
        for hash in self.key.iter().flat_map(|key| &key.hashes) {
            flags.extend(["--key-hash".into(), hash.into()]);
        }
        let secret = self.state.cookie_secret()?;
        flags.extend(["--cookie-secret-file".into(), secret.into()]);
        flags.extend(["--ledger".into(), unix(&self.ledger_socket())]);
        let lease = duration::argument(self.args.lease_time);
        flags.extend(["--lease-time".into(), lease.into()]);
        flags.extend(self.admin_keys());
        flags.extend(drain_flags(self.args));
        flags.extend(common_flags(self.args));
        let mut secrets = Vec::new();
        match (&self.args.redis, &self.args.postgres) {
            (Some(redis), _) => {
                secrets.push((process::REDIS, redis.into()));
                flags.extend(self.redis_ca());
                flags.extend(["--spool".into(), self.state.spool(index).into()]);
                flags.extend(["--routers".into(), self.args.routers.to_string().into()]);
            }
            (None, Some(postgres)) => {
                secrets.push((process::POSTGRES, postgres.into()));
                flags.extend(["--spool".into(), self.state.spool(index).into()]);
            }
            (None, None) => {
                flags.extend(["--sqlite".into(), self.state.ledger().into()]);
            }
        }
        Ok(CommandLine { flags, secrets })
    }

    fn ledger(&self) -> CommandLine {
        let mut flags: Vec<OsString> = vec!["ledger".into(), "--json".into()];
        flags.extend(["--listen".into(), unix(&self.ledger_socket())]);
        flags.extend(self.admin_keys());
        flags.extend(self.redis_ca());
        flags.extend(common_flags(self.args));
        let redis = self
            .args
            .redis
            .iter()
            .map(|url| (process::REDIS, url.into()));
        let store = (process::STORE, self.store().into());
        CommandLine {
            flags,
            secrets: redis.chain([store]).collect(),
        }
    }

    fn redis_ca(&self) -> impl Iterator<Item = OsString> {
        let path = self.args.redis_ca.redis_ca.as_ref();
        path.into_iter()
            .flat_map(|path| ["--redis-ca".into(), path.into()])
    }

    fn store(&self) -> String {
        match &self.args.postgres {
            Some(url) => url.clone(),
            None => format!("sqlite:{}", self.state.ledger().display()),
        }
    }

    fn ledger_socket(&self) -> PathBuf {
        self.scratch.path().join("ledger.sock")
    }

    fn admin_keys(&self) -> impl Iterator<Item = OsString> {
        let hashes = self.admin_key.hashes.iter();
        hashes.flat_map(|hash| ["--admin-key-hash".into(), hash.into()])
    }
}

/// Flags of a process that has running answers.
fn drain_flags(args: &Args) -> [OsString; 2] {
    let timeout = duration::argument(args.drain_timeout);
    ["--drain-timeout".into(), timeout.into()]
}

/// Flags of every process.
fn common_flags(args: &Args) -> Vec<OsString> {
    let format = args.logs.log_format.to_possible_value();
    let format = format.expect("every format should have a name");
    let mut flags: Vec<OsString> = vec![
        "--exit-with-parent".into(),
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
