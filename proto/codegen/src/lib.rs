//! Generates the Rust code of `inferyard.worker.v1`, without a system protoc.

use std::fs;
use std::path::Path;

const PROTO: &str = "inferyard/worker/v1/worker.proto";

/// The code that `proto/src/generated/inferyard.worker.v1.rs` has to consist of; `root` is the folder
/// of the `.proto` files.
pub fn generate(root: &Path) -> anyhow::Result<String> {
    let descriptors = protox::compile([PROTO], [root])?;
    let out = tempfile::tempdir()?;
    tonic_prost_build::configure()
        // `Bytes` instead of `Vec`: a prompt is passed on, not copied.
        .bytes(".")
        .out_dir(out.path())
        .compile_fds(descriptors)?;
    Ok(fs::read_to_string(
        out.path().join("inferyard.worker.v1.rs"),
    )?)
}
