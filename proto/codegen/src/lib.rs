//! Generates the Rust code of `proto/`, without a system protoc.

use std::fs;
use std::path::Path;

/// Every file of `proto/`, and the file in `proto/src/generated/` that its code is.
pub const FILES: [(&str, &str); 3] = [
    ("inferyard/worker/v1/worker.proto", "inferyard.worker.v1.rs"),
    ("inferyard/usage/v1/usage.proto", "inferyard.usage.v1.rs"),
    ("inferyard/keys/v1/keys.proto", "inferyard.keys.v1.rs"),
];

/// The code of one of [`FILES`]; `root` is the folder of the `.proto` files.
pub fn generate(root: &Path, proto: &str, generated: &str) -> anyhow::Result<String> {
    let descriptors = protox::compile([proto], [root])?;
    let out = tempfile::tempdir()?;
    tonic_prost_build::configure()
        // `Bytes` instead of `Vec`: a prompt is passed on, not copied.
        .bytes(".")
        .out_dir(out.path())
        .compile_fds(descriptors)?;
    Ok(fs::read_to_string(out.path().join(generated))?)
}
