//! The names, labels and annotations of what belongs to a ModelDeployment.

/// Names the application of worker pods; routers find them by it.
pub(crate) const WORKER: &str = "inferyard-worker";
/// The label of everything that belongs to a ModelDeployment.
pub(crate) const OWNER_LABEL: &str = "inferyard.dev/model-deployment";
/// The name of the model that a pod serves, for routers: pods from before a new name was declared serve the old one.
pub(crate) const MODEL_ANNOTATION: &str = "inferyard.dev/model";
/// The digest of the template that a pod was made of: it tells new workers from old ones.
pub(crate) const TEMPLATE_ANNOTATION: &str = "inferyard.dev/template";
/// Who made it.
pub(crate) const MANAGED_BY: &str = "inferyard-operator";
/// The end of the names of everything that belongs to a ModelDeployment.
const SUFFIX: &str = "-worker";
/// Where workers, and what fetches for them, speak gRPC.
pub(crate) const GRPC_PORT: u16 = 50051;

/// The name of everything that belongs to a ModelDeployment of this name.
pub(crate) fn child_name(model: &str) -> String {
    format!("{model}{SUFFIX}")
}

/// The name of the ModelDeployment to which something of this name belongs.
pub(crate) fn owner_name(child: &str) -> Option<&str> {
    child.strip_suffix(SUFFIX)
}
