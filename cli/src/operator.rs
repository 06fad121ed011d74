//! `inferyard operator`: ModelDeployments of a cluster become running workers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use inferyard_crds::Platform;
use inferyard_operator::{AcceleratorClass, Config, ReleaseName};
use tokio::runtime;

use crate::failure::Failure;
use crate::{logs, shutdown};

const EXAMPLES: &str = "\
Examples:
  inferyard operator --namespace models --image registry.example/inferyard:1.0.0
  inferyard operator --image registry.example/inferyard:1.0.0 \\
      --accelerator-class h100=nvidia.com/gpu,nvidia.com/gpu.product=NVIDIA-H100-80GB-HBM3

Exit codes: 0 stopped by a signal, 1 failed, 2 wrong command line.";

/// Run the operator of a cluster, which turns ModelDeployments into running workers
///
/// In a pod it uses the pod's service account, elsewhere KUBECONFIG. Any number of operators of one release may run:
/// the holder of the Lease works, the others wait. Namespaces that the operator of another release manages are left
/// alone.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A namespace to manage; can be repeated [default: all]
    #[arg(long = "namespace", value_name = "NAME")]
    namespaces: Vec<String>,
    /// A namespace of the platform's administrators; can be repeated. Only Plans there may open other namespaces or the
    /// preview, set a priority above 0 or a price below the default; routers need the same setting [default: the only
    /// managed namespace, else that of the Lease]
    #[arg(long = "platform-namespace", value_name = "NAME")]
    platform_namespaces: Vec<String>,
    /// A namespace of routers and operators: NetworkPolicies of workers admit gRPC connections only from pods of these
    /// namespaces; can be repeated [default: that of the Lease]
    #[arg(long = "router-namespace", value_name = "NAME")]
    router_namespaces: Vec<String>,
    /// Image of the workers
    #[arg(long, value_name = "IMAGE", env = "INFERYARD_WORKER_IMAGE")]
    image: String,
    /// An accelerator class that ModelDeployments may name, in addition to `nvidia` and `amd`: `NAME=RESOURCE`, with a
    /// label of its nodes: `NAME=RESOURCE,LABEL=VALUE`
    #[arg(long = "accelerator-class", value_name = "CLASS", value_parser = class)]
    classes: Vec<(String, AcceleratorClass)>,
    /// A namespace whose pods may scrape the metrics of workers; can be repeated [default: all]
    #[arg(long = "scraper-namespace", value_name = "NAME")]
    scraper_namespaces: Vec<String>,
    /// Release of this operator. With the namespace of its Lease it identifies the operator in `status.managedBy` of
    /// ModelDeployments
    #[arg(long, value_name = "NAME", default_value = "inferyard")]
    release: ReleaseName,
    /// Namespace of the Lease `RELEASE-operator`, which elects the operator that works
    #[arg(
        long,
        value_name = "NAME",
        env = "POD_NAMESPACE",
        default_value = "default"
    )]
    leader_election_namespace: String,
    /// Identity of this operator in the Lease [default: a random name]
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    identity: Option<String>,
    /// Kubeconfig of the cluster [default: the pod's service account, else KUBECONFIG]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Address for Prometheus metrics and probes: /metrics, /healthz, /readyz [default: none]
    #[arg(long, value_name = "ADDRESS")]
    metrics_listen: Option<SocketAddr>,
    #[command(flatten)]
    logs: logs::Args,
}

/// Runs until a signal comes.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let _logs = logs::init(&args.logs, "operator")?;
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start")?;
    runtime.block_on(work(args)).map_err(Failure::Failed)
}

async fn work(args: Args) -> anyhow::Result<()> {
    let stop = shutdown::requested(false)?;
    let identity = match args.identity {
        // A pod may be restarted with the same name: the random part keeps its old Lease from counting as its own.
        Some(name) => format!("{name}_{}", random()?),
        None => random()?,
    };
    let mut classes: BTreeMap<_, _> = Config::usual_classes();
    classes.extend(args.classes);
    let own = &args.leader_election_namespace;
    let platform = match args.platform_namespaces {
        none if none.is_empty() => Platform::usual(&args.namespaces, own),
        namespaces => Platform::new(namespaces),
    };
    let router_namespaces = match args.router_namespaces {
        none if none.is_empty() => vec![own.clone()],
        namespaces => namespaces,
    };
    let config = Config {
        namespaces: args.namespaces,
        platform,
        router_namespaces,
        image: args.image,
        classes,
        scraper_namespaces: args.scraper_namespaces,
        release: args.release.within(&args.leader_election_namespace),
        lease_name: args.release.lease(),
        lease_namespace: args.leader_election_namespace,
        identity,
        kubeconfig: args.kubeconfig,
        metrics: args.metrics_listen,
    };
    Ok(inferyard_operator::run(config, stop).await?)
}

fn random() -> anyhow::Result<String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).context("no randomness")?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}

fn class(text: &str) -> Result<(String, AcceleratorClass), String> {
    let (name, class) =
        (text.split_once('=')).ok_or("expected NAME=RESOURCE, such as h100=nvidia.com/gpu")?;
    Ok((name.to_owned(), class.parse()?))
}
