//! Models that are compiled into the binary, written to files because engines map files.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use inferyard_crds::BuiltinModel;
use tempfile::NamedTempFile;

/// The model of this name on the command line.
pub(crate) fn parse(name: &str) -> Result<BuiltinModel, String> {
    let demo = self::name(BuiltinModel::Demo);
    if name == demo {
        Ok(BuiltinModel::Demo)
    } else {
        Err(format!(
            "the only model that ships with Inferyard is `{demo}`"
        ))
    }
}

/// The name of a model on the command line.
pub(crate) fn name(model: BuiltinModel) -> &'static str {
    match model {
        BuiltinModel::Demo => inferyard_demo_model::NAME,
    }
}

fn weights(model: BuiltinModel) -> &'static [u8] {
    match model {
        BuiltinModel::Demo => inferyard_demo_model::GGUF,
    }
}

/// Writes the model into `folder`, which must belong to this user alone. An existing file is used again.
pub(crate) fn unpack(model: BuiltinModel, folder: &Path) -> anyhow::Result<PathBuf> {
    let path = folder.join(format!("{}.gguf", name(model)));
    write_whole(&path, folder, weights(model))
        .with_context(|| format!("cannot write the built-in model to {}", path.display()))?;
    Ok(path)
}

/// Written atomically: a reader sees the whole file or none, also if two processes write at once.
fn write_whole(path: &Path, folder: &Path, bytes: &[u8]) -> io::Result<()> {
    if fs::read(path).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("demo.gguf"), b"half").unwrap();
        let path = unpack(BuiltinModel::Demo, folder.path()).unwrap();
        assert_eq!(fs::read(path).unwrap(), inferyard_demo_model::GGUF);
    }
}
