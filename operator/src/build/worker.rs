//! The worker container of a pod: its command line, ports and probes.

use inferyard_crds::{METRICS_PORT_NAME, WORKER_GRPC_PORT, WORKER_METRICS_PORT};
use k8s_openapi::api::core::v1::{Container, ContainerPort, GRPCAction, Probe};

use super::container::{accelerators, confined, mount, variable};
use super::{chat_template, engine, weights};
use crate::validate::{EngineKind, Validated};

/// Seconds between two probes, and after which one of them fails.
const PROBE_SECONDS: i32 = 2;
/// A worker serves when its model is loaded, which may take this many probes: an hour.
const STARTUP_FAILURES: i32 = 1_800;
const READINESS_FAILURES: i32 = 2;
const LIVENESS_FAILURES: i32 = 15;

pub(super) fn container(model: &Validated) -> Container {
    let embedded = matches!(model.engine, EngineKind::Embedded(_));
    let mut mounts = vec![mount("tmp", "/tmp")];
    let mut env = vec![variable("TMPDIR", "/tmp")];
    if embedded {
        mounts.extend(weights::mount(model));
        mounts.extend(chat_template::mount(model));
        env.extend(chat_template::variable(model));
    }
    Container {
        name: "worker".to_owned(),
        image: Some(model.image.clone()),
        args: Some(args(model)),
        env: Some(env),
        ports: Some(vec![
            port("grpc", WORKER_GRPC_PORT),
            port(METRICS_PORT_NAME, WORKER_METRICS_PORT),
        ]),
        startup_probe: Some(probe("", STARTUP_FAILURES)),
        readiness_probe: Some(probe("", READINESS_FAILURES)),
        liveness_probe: Some(probe("liveness", LIVENESS_FAILURES)),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        security_context: Some(confined()),
        volume_mounts: Some(mounts),
        resources: accelerators(model).filter(|_| embedded),
        ..Container::default()
    }
}

fn args(model: &Validated) -> Vec<String> {
    let mut args = vec![
        "worker".to_owned(),
        "--model".to_owned(),
        model.model.clone(),
        "--listen".to_owned(),
        format!("0.0.0.0:{WORKER_GRPC_PORT}"),
        "--metrics-listen".to_owned(),
        format!("0.0.0.0:{WORKER_METRICS_PORT}"),
        "--log-format".to_owned(),
        "json".to_owned(),
        "--drain-timeout".to_owned(),
        format!("{}s", model.drain.as_secs()),
    ];
    args.extend(engine::worker_args(model));
    args
}

fn port(name: &str, number: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: number.into(),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

/// A probe of one service of the worker's gRPC health protocol.
fn probe(service: &str, failures: i32) -> Probe {
    Probe {
        grpc: Some(GRPCAction {
            port: WORKER_GRPC_PORT.into(),
            service: Some(service.to_owned()),
        }),
        period_seconds: Some(PROBE_SECONDS),
        timeout_seconds: Some(PROBE_SECONDS),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}
