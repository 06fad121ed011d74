//! Where the API server is, and how to log in.

use std::path::{Path, PathBuf};

use kube::Config;
use kube::config::{InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError};

/// Why there is no configuration. An API server that does not answer is not an error here.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no kubeconfig and no service account.
    #[error(
        "there is no kubeconfig and no service account: run it in a pod, or set KUBECONFIG or --kubeconfig"
    )]
    Infer(#[source] InferConfigError),
    /// The given kubeconfig cannot be used.
    #[error("cannot use the kubeconfig {}", path.display())]
    Kubeconfig {
        /// The kubeconfig file.
        path: PathBuf,
        /// What is wrong with it.
        source: KubeconfigError,
    },
}

/// The configuration of a kubeconfig; `None`: that of kubectl, or of the service account of the pod.
pub async fn config(kubeconfig: Option<&Path>) -> Result<Config, ConfigError> {
    let Some(path) = kubeconfig else {
        return Config::infer().await.map_err(ConfigError::Infer);
    };
    let refuse = |source| ConfigError::Kubeconfig {
        path: path.to_owned(),
        source,
    };
    let file = Kubeconfig::read_from(path).map_err(refuse)?;
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(file, &options).await;
    config.map_err(refuse)
}
