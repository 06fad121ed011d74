//! The templates of the chart have the same labels and ports as the pods that the operator builds.

use std::fs;
use std::path::Path;

use inferyard_crds::{
    APPLICATION_LABEL, METRICS_PORT_NAME, OPERATOR_APPLICATION, OWNER_LABEL, ROUTER_APPLICATION,
    WORKER_APPLICATION, WORKER_GRPC_PORT,
};

fn template(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/inferyard/templates");
    fs::read_to_string(folder.join(name)).expect("the template should be there")
}

#[track_caller]
fn has(template_name: &str, expected: &str) {
    let text = template(template_name);
    let line = |line: &str| line.trim().trim_start_matches("- ") == expected;
    assert!(
        text.lines().any(line),
        "{template_name} has no {expected:?}"
    );
}

#[test]
fn the_chart_lets_routers_and_operators_reach_workers() {
    has(
        "_network.tpl",
        &format!("ports: [{{port: {WORKER_GRPC_PORT}}}]"),
    );
    has(
        "_network.tpl",
        &format!("{APPLICATION_LABEL}: {WORKER_APPLICATION}"),
    );
}

#[test]
fn the_chart_scrapes_workers() {
    let monitors = "monitoring/podmonitors.yaml";
    has(
        monitors,
        &format!("{APPLICATION_LABEL}: {WORKER_APPLICATION}"),
    );
    has(monitors, &format!("podTargetLabels: [{OWNER_LABEL}]"));
    has(monitors, &format!("port: {METRICS_PORT_NAME}"));
}

/// The NetworkPolicy of a worker admits the pods of these applications.
#[test]
fn the_chart_labels_routers_and_operators_by_their_component() {
    let prefix = "inferyard-";
    has(
        "_names.tpl",
        &format!("{APPLICATION_LABEL}: {prefix}{{{{ index . 1 }}}}"),
    );
    for (application, component) in [
        (ROUTER_APPLICATION, "router"),
        (OPERATOR_APPLICATION, "operator"),
    ] {
        assert_eq!(application, format!("{prefix}{component}"));
        let deployment = template(&format!("{component}/deployment.yaml"));
        let selector = format!("include \"inferyard.selector\" (list . \"{component}\")");
        assert!(deployment.contains(&selector), "{component}");
    }
}
