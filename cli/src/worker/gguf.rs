//! The model's file, where a folder is given: the only GGUF model in it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Folders below the given one: repositories keep one for each quantization.
const MAX_DEPTH: usize = 4;
/// Names in an error message.
const MAX_SHOWN: usize = 8;

/// Why a folder has no model to serve.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GgufError {
    /// It cannot be read.
    #[error("--gguf {}: cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// There is none.
    #[error("--gguf {}: there is no *.gguf file in this folder", .0.display())]
    None(PathBuf),
    /// Nobody says which.
    #[error(
        "--gguf {}: there are {count} models in this folder, name the file of one: {names}",
        path.display()
    )]
    Several {
        path: PathBuf,
        count: usize,
        names: String,
    },
    /// The first of a split is what an engine opens.
    #[error("--gguf {}: the file -00001-of- of this split is not here", .0.display())]
    Headless(PathBuf),
}

/// The file itself, or the only model of a folder: the first file of a split.
pub(super) fn resolve(path: &Path) -> Result<PathBuf, GgufError> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let mut models = BTreeMap::new();
    collect(path, 0, &mut models)?;
    match models.pop_first() {
        None => Err(GgufError::None(path.to_owned())),
        Some((stem, first)) if models.is_empty() => match first {
            Some(first) => Ok(first),
            None => Err(GgufError::Headless(stem)),
        },
        Some((stem, _)) => {
            let count = models.len() + 1;
            let stems = [stem].into_iter().chain(models.into_keys());
            let names = stems.map(|stem| {
                stem.strip_prefix(path)
                    .unwrap_or(&stem)
                    .display()
                    .to_string()
            });
            let names: Vec<_> = names.take(MAX_SHOWN).collect();
            Err(GgufError::Several {
                path: path.to_owned(),
                count,
                names: names.join(", "),
            })
        }
    }
}

/// Models by their paths without `.gguf` and without the number of a split, each with its first file.
fn collect(
    folder: &Path,
    depth: usize,
    models: &mut BTreeMap<PathBuf, Option<PathBuf>>,
) -> Result<(), GgufError> {
    let unread = |source| GgufError::Read {
        path: folder.to_owned(),
        source,
    };
    for entry in fs::read_dir(folder).map_err(unread)? {
        let path = entry.map_err(unread)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        if name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            if depth < MAX_DEPTH {
                collect(&path, depth + 1, models)?;
            }
            continue;
        }
        // Projectors of images are no models.
        let Some(stem) = name
            .strip_suffix(".gguf")
            .filter(|name| !name.starts_with("mmproj"))
        else {
            continue;
        };
        match split(stem) {
            None => {
                models.insert(path.with_extension(""), Some(path));
            }
            Some((model, index)) => {
                let first = models.entry(path.with_file_name(model)).or_default();
                if index == "00001" {
                    *first = Some(path);
                }
            }
        }
    }
    Ok(())
}

/// `model-00002-of-00003`: the model, and which file of it.
fn split(stem: &str) -> Option<(&str, &str)> {
    let number = |text: &str| text.len() == 5 && text.bytes().all(|c| c.is_ascii_digit());
    let (before, count) = stem.rsplit_once("-of-")?;
    let (model, index) = before.rsplit_once('-')?;
    (number(count) && number(index)).then_some((model, index))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(names: &[&str]) -> Result<String, GgufError> {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let found = resolve(folder.path())?;
        Ok(found
            .strip_prefix(folder.path())
            .unwrap()
            .display()
            .to_string())
    }

    #[test]
    fn the_only_model_of_a_folder_is_taken() {
        let other = [
            "config.json",
            ".inferyard-fetch/parts/b.gguf",
            "mmproj-f16.gguf",
        ];
        assert_eq!(
            resolved(&[&other[..], &["a.v1.gguf"]].concat()).unwrap(),
            "a.v1.gguf"
        );
        let split = ["Q8/m-00002-of-00002.gguf", "Q8/m-00001-of-00002.gguf"];
        assert_eq!(resolved(&[&other[..], &split].concat()).unwrap(), split[1]);
    }

    #[test]
    fn none_and_several_are_told() {
        assert!(matches!(resolved(&["a.txt"]), Err(GgufError::None(_))));
        let error = resolved(&["a.gguf", "Q8/b-00001-of-00001.gguf"])
            .unwrap_err()
            .to_string();
        assert!(error.contains("there are 2 models"), "{error}");
        assert!(error.ends_with("Q8/b, a"), "{error}");
        let headless = resolved(&["a-00002-of-00002.gguf"]);
        assert!(matches!(headless, Err(GgufError::Headless(_))));
    }

    #[test]
    fn a_file_is_itself_whether_it_is_there_or_not() {
        let path = Path::new("does/not/exist.gguf");
        assert_eq!(resolve(path).unwrap(), path);
    }
}
