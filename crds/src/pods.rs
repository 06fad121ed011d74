//! The labels, annotations and ports of pods by which the operator, the routers and the chart find each other.

/// The label of every pod that names its application.
pub const APPLICATION_LABEL: &str = "app.kubernetes.io/name";
/// The application of the pods of workers.
pub const WORKER_APPLICATION: &str = "inferyard-worker";
/// The application of the pods of routers.
pub const ROUTER_APPLICATION: &str = "inferyard-router";
/// The application of the pods of operators.
pub const OPERATOR_APPLICATION: &str = "inferyard-operator";
/// The label of every object of a `ModelDeployment`. Its value is the name of the `ModelDeployment`.
pub const OWNER_LABEL: &str = "inferyard.dev/model-deployment";
/// The annotation of a worker's pod with the name of the model that it serves. After a rename of the model, older pods
/// have the previous name.
pub const MODEL_ANNOTATION: &str = "inferyard.dev/model";
/// The TCP port on which workers in pods, and the init containers that download for them, serve gRPC.
pub const WORKER_GRPC_PORT: u16 = 50051;
/// The TCP port on which workers in pods serve metrics.
pub const WORKER_METRICS_PORT: u16 = 9090;
/// The name of that port in a pod.
pub const METRICS_PORT_NAME: &str = "metrics";
