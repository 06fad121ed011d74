//! Which files are fetched, which of them are complete, and whether there is room for the others.

use std::collections::BTreeSet;
use std::fs;

use crate::folder::{Entry, Folder, Here};
use crate::list::Remote;
use crate::name::Name;
use crate::source::Glob;

/// Most names in an error message.
const MAX_SHOWN: usize = 12;
/// Files that only git reads.
const NEVER: [&str; 2] = [".git*", "*/.git*"];
/// Copies of the safetensors files in formats that no engine here reads.
const BESIDE_SAFETENSORS: [&str; 14] = [
    "*.bin",
    "*.pt",
    "*.pth",
    "*.ckpt",
    "*.h5",
    "*.msgpack",
    "*.ot",
    "*.onnx",
    "*.onnx_data",
    "*.tflite",
    "original/*",
    "metal/*",
    "onnx/*",
    "openvino/*",
];

/// Why the files cannot be chosen.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// No name matches the patterns.
    #[error("no file matches --include {patterns}; there are: {names}")]
    NothingMatches {
        /// The patterns.
        patterns: String,
        /// The names in the repository.
        names: String,
    },
    /// The repository has no files.
    #[error("the repository has no files")]
    Empty,
    /// There are several GGUF models, and an engine serves one.
    #[error(
        "the repository has {count} GGUF models: choose one with --include, as in --include '{example}'; \
         there are: {names}"
    )]
    SeveralModels {
        /// Number of models.
        count: usize,
        /// A pattern that matches the first of them.
        example: String,
        /// Their names.
        names: String,
    },
    /// A name is listed twice.
    #[error("the server names the file {0} twice")]
    Twice(String),
    /// The disk has too little room.
    #[error(transparent)]
    Room(#[from] NoRoom),
}

/// The disk has too little room.
#[derive(Debug, thiserror::Error)]
#[error("{folder} has room for {free} bytes, {needed} more are needed: give the volume more space")]
pub struct NoRoom {
    /// The folder.
    pub folder: String,
    /// Bytes that are still to be written.
    pub needed: u64,
    /// Bytes that are free.
    pub free: u64,
}

/// Chooses files: those that match a pattern, or the usual ones if there is none.
pub(crate) fn choose(files: Vec<Remote>, include: &[Glob]) -> Result<Vec<Remote>, PlanError> {
    let mut names = BTreeSet::new();
    if let Some(twice) = files.iter().find(|file| !names.insert(file.name.as_str())) {
        return Err(PlanError::Twice(twice.name.to_string()));
    }
    if files.is_empty() {
        return Err(PlanError::Empty);
    }
    if include.is_empty() {
        return usual(files);
    }
    let wanted = |file: &Remote| include.iter().any(|glob| glob.matches(file.name.as_str()));
    if !files.iter().any(wanted) {
        let patterns: Vec<_> = include.iter().map(ToString::to_string).collect();
        let patterns = patterns.join(", ");
        return Err(PlanError::NothingMatches {
            patterns,
            names: shown(names.into_iter()),
        });
    }
    Ok(files.into_iter().filter(wanted).collect())
}

/// The files that an engine reads, if no patterns were given.
fn usual(files: Vec<Remote>) -> Result<Vec<Remote>, PlanError> {
    let has = |end: &str| files.iter().any(|file| file.name.as_str().ends_with(end));
    let models: BTreeSet<_> = files
        .iter()
        .filter_map(|file| gguf_model(&file.name))
        .collect();
    if models.len() > 1 && !has(".safetensors") {
        return Err(PlanError::SeveralModels {
            count: models.len(),
            example: format!("{}*", models.first().copied().unwrap_or_default()),
            names: shown(models.iter().copied()),
        });
    }
    let mut without: Vec<&str> = NEVER.to_vec();
    if has(".safetensors") {
        without.extend(BESIDE_SAFETENSORS);
        without.push("*.gguf");
    }
    let without: Vec<Glob> = without
        .iter()
        .map(|glob| glob.parse().expect("the patterns above should be right"))
        .collect();
    let wanted = |file: &Remote| !without.iter().any(|glob| glob.matches(file.name.as_str()));
    Ok(files.into_iter().filter(wanted).collect())
}

/// The name of a GGUF model, which all parts of a split file share. Image projectors are not models.
fn gguf_model(name: &Name) -> Option<&str> {
    let stem = name.as_str().strip_suffix(".gguf")?;
    if stem.rsplit('/').next()?.starts_with("mmproj") {
        return None;
    }
    let number = |text: &str| text.len() == 5 && text.bytes().all(|c| c.is_ascii_digit());
    let split = stem.rsplit_once("-of-").and_then(|(before, count)| {
        let (model, index) = before.rsplit_once('-')?;
        (number(count) && number(index)).then_some(model)
    });
    Some(split.unwrap_or(stem))
}

fn shown<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = names.len().saturating_sub(MAX_SHOWN);
    let mut text = names.take(MAX_SHOWN).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(", and ");
        text.push_str(&more.to_string());
        text.push_str(" more");
    }
    text
}

/// Whether a file is complete. A recorded file is recognized by size and time and not read again; any other one is
/// hashed, if its checksum is known. This blocks.
pub(crate) fn here(folder: &Folder, entry: &Entry) -> Option<Here> {
    let path = entry.remote.name.within(folder.path());
    if let Some(here) = entry.here.filter(|here| here.is_at(&path)) {
        return Some(here);
    }
    let checksum = entry.remote.checksum?;
    let file = fs::symlink_metadata(&path)
        .ok()
        .filter(fs::Metadata::is_file)?;
    if entry.remote.size.is_some_and(|size| size != file.len()) {
        return None;
    }
    tracing::info!(file = %entry.remote.name, "it is here, and is read to see whether it is right");
    let fits = checksum.fits(&path, file.len()).unwrap_or(false);
    fits.then(|| Here::of(&file, checksum))
}

/// Checks that `needed` more bytes can be written.
pub(crate) fn room(folder: &Folder, needed: u64) -> Result<(), NoRoom> {
    match folder.free() {
        Some(free) if free < needed => {
            let folder = folder.path().display().to_string();
            Err(NoRoom {
                folder,
                needed,
                free,
            })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str], include: &[&str]) -> Result<Vec<String>, PlanError> {
        let remote = |name: &&str| Remote {
            name: name.parse().unwrap(),
            size: None,
            checksum: None,
        };
        let include: Vec<Glob> = include.iter().map(|glob| glob.parse().unwrap()).collect();
        let files = choose(names.iter().map(remote).collect(), &include)?;
        Ok(files
            .into_iter()
            .map(|file| file.name.to_string())
            .collect())
    }

    #[test]
    fn without_a_choice_it_is_what_an_engine_reads() {
        let names = [
            ".gitattributes",
            "README.md",
            "config.json",
            "model.safetensors",
            "pytorch_model.bin",
            "onnx/model.onnx",
            "original/consolidated.00.pth",
            "model-Q4.gguf",
            "model-Q8.gguf",
        ];
        let files = chosen(&names, &[]).unwrap();
        assert_eq!(files, ["README.md", "config.json", "model.safetensors"]);
        let only = chosen(&["config.json", "pytorch_model.bin"], &[]).unwrap();
        assert_eq!(
            only,
            ["config.json", "pytorch_model.bin"],
            "there is nothing else"
        );
    }

    #[test]
    fn of_several_gguf_models_one_must_be_chosen() {
        let split = [
            "m-Q8-00001-of-00002.gguf",
            "m-Q8-00002-of-00002.gguf",
            "mmproj-f16.gguf",
        ];
        assert_eq!(chosen(&split, &[]).unwrap(), split);
        let two = [&split[..], &["m-Q4_K_M.gguf"]].concat();
        let error = chosen(&two, &[]).unwrap_err().to_string();
        assert!(error.contains("2 GGUF models"), "{error}");
        assert!(error.contains("m-Q4_K_M, m-Q8"), "{error}");
        assert_eq!(chosen(&two, &["*Q8*"]).unwrap(), split[..2]);
    }

    #[test]
    fn what_matches_nothing_is_told_with_what_there_is() {
        let error = chosen(&["a.gguf", "b.txt"], &["*.safetensors"])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("*.safetensors; there are: a.gguf, b.txt"),
            "{error}"
        );
        let many: Vec<_> = (0..20).map(|index| format!("{index:02}.gguf")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let error = chosen(&many, &["x"]).unwrap_err().to_string();
        assert!(error.ends_with("11.gguf, and 8 more"), "{error}");
        assert!(matches!(chosen(&[], &[]), Err(PlanError::Empty)));
        assert!(matches!(chosen(&["a", "a"], &[]), Err(PlanError::Twice(_))));
    }
}
