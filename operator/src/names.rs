//! The names, labels and annotations of the objects of a ModelDeployment that only the operator uses.

/// The digest of the template that a pod was made from. It tells the pods of the current template from older ones.
pub(crate) const TEMPLATE_ANNOTATION: &str = "inferyard.dev/template";
/// The value of the label `app.kubernetes.io/managed-by`.
pub(crate) const MANAGED_BY: &str = "inferyard-operator";
/// The suffix of the names of all objects of a ModelDeployment.
const SUFFIX: &str = "-worker";

/// The name of each object of a ModelDeployment.
pub(crate) fn child_name(model: &str) -> String {
    format!("{model}{SUFFIX}")
}

/// The name of the ModelDeployment that an object of this name belongs to.
pub(crate) fn owner_name(child: &str) -> Option<&str> {
    child.strip_suffix(SUFFIX)
}
