//! Keys in manifests: documents of the kind `ApiKey`.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use inferyard_keys::{KeyText, WantedKey};
use inferyard_manifests::{ManifestFile, read, text_documents};
use serde_json::{Map, Value, json};
use tempfile::NamedTempFile;

use super::print::{self, Listing, Row};
use super::{Action, Create, List, Output, Revoke, Rotate, document, seconds};
use crate::calendar::{moment_text, parse_moment};
use crate::failure::Failure;

/// A document of a file.
struct Found<'a> {
    file: &'a ManifestFile,
    range: std::ops::Range<usize>,
    value: Value,
}

/// Runs the action on manifests.
pub(super) fn run(action: Action) -> Result<(), Failure> {
    match action {
        Action::Create(create) => self::create(&create),
        Action::List(list) => self::list(&list),
        Action::Rotate(rotate) => self::rotate(&rotate),
        Action::Revoke(revoke) => self::revoke(&revoke),
    }
}

fn create(create: &Create) -> Result<(), Failure> {
    let text = KeyText::random();
    let hash = text.hash().to_string();
    let name = create.name.clone();
    let name = name.unwrap_or_else(|| format!("key-{}", &hash[..8]));
    let files = files(&create.place.files)?;
    let documents = documents(&files)?;
    check_name(&name, &documents)?;
    check_plan(&create.plan, &documents)?;
    let account = create.account.clone();
    let fields = create.fields(name.clone(), account.unwrap_or_else(|| name.clone()));
    WantedKey::new(fields.clone(), seconds()).map_err(|error| Failure::usage(error.to_string()))?;

    let mut spec = Map::new();
    spec.insert("plan".to_owned(), fields.plan.into());
    if let Some(account) = &create.account {
        spec.insert("account".to_owned(), account.as_str().into());
    }
    spec.insert("hash".to_owned(), hash.into());
    if let Some(end) = fields.expires {
        spec.insert("expiresAt".to_owned(), moment_text(end).into());
    }
    let limits = print::limits(&fields.limits);
    if limits.as_object().is_some_and(|limits| !limits.is_empty()) {
        spec.insert("limits".to_owned(), limits);
    }
    let manifest = document::written(&json!({
        "apiVersion": inferyard_crds::API_VERSION, "kind": "ApiKey", "metadata": {"name": name},
        "spec": spec,
    }));
    let written = if create.write {
        let [file] = &files[..] else {
            return Err(Failure::usage("--write needs one file".to_owned()));
        };
        let before = match file.text.trim_end() {
            "" => String::new(),
            text => format!("{text}\n---\n"),
        };
        replace(&file.path, &(before + &manifest))?;
        Some(file.path.as_path())
    } else {
        None
    };
    let separated = format!("---\n{manifest}");
    print_issued(
        create.output.output,
        &name,
        Some(&text),
        &separated,
        written,
    )
}

fn list(list: &List) -> Result<(), Failure> {
    let files = files_needed(&list.place.files)?;
    let now = seconds();
    let documents = documents(&files)?;
    let keys = documents.iter().filter(|found| found.is("ApiKey"));
    let rows = keys.map(|found| found.row(now)).filter(|row| {
        let account = list.account.as_ref();
        account.is_none_or(|account| *account == row.account)
    });
    let rows: Vec<_> = rows.take(list.limit).collect();
    let mut listing = Listing::new(list.output.output);
    listing.page(&rows).map(|_| ())
}

fn rotate(rotate: &Rotate) -> Result<(), Failure> {
    let files = files_needed(&rotate.place.files)?;
    let documents = documents(&files)?;
    let found = find(&documents, &rotate.key)?;
    let now = seconds();
    let row = found.row(now);
    if row.state != "active" {
        let (name, state) = (row.name, row.state);
        return Err(Failure::usage(format!(
            "the key {name} is {state}: a new text would be of no use"
        )));
    }
    if let Some(end) = found.spec("previousHashExpiresAt")
        && parse_moment(end).is_none_or(|end| end > now)
    {
        print::note(&format!(
            "note: the text before the last rotation would have worked until {end}; it ends now"
        ));
    }
    let text = KeyText::random();
    let hash = Some(Value::from(text.hash().to_string()));
    let overlaps = !rotate.overlap.is_zero();
    let before = found.spec("hash").filter(|_| overlaps).map(Value::from);
    let end = moment_text(now + rotate.overlap.as_secs());
    let end = overlaps.then(|| Value::from(end));
    let changes = [
        ("hash", hash),
        ("previousHashExpiresAt", end),
        ("previousHash", before),
    ];
    let (manifest, written) = found.change(&changes, rotate.write)?;
    let name = found.name();
    print_issued(rotate.output.output, name, Some(&text), &manifest, written)
}

fn revoke(revoke: &Revoke) -> Result<(), Failure> {
    let files = files_needed(&revoke.place.files)?;
    let documents = documents(&files)?;
    let found = find(&documents, &revoke.key)?;
    let changes = [("disabled", Some(Value::Bool(true)))];
    let (manifest, written) = found.change(&changes, revoke.write)?;
    print_issued(revoke.output.output, found.name(), None, &manifest, written)
}

fn files(paths: &[PathBuf]) -> Result<Vec<ManifestFile>, Failure> {
    read(paths).map_err(|error| Failure::Usage(error.into()))
}

fn files_needed(paths: &[PathBuf]) -> Result<Vec<ManifestFile>, Failure> {
    if paths.is_empty() {
        return Err(Failure::usage(
            "where are the keys? -f FILE for manifests, --redis URL for a key store".to_owned(),
        ));
    }
    files(paths)
}

fn documents(files: &[ManifestFile]) -> Result<Vec<Found<'_>>, Failure> {
    let mut all = Vec::new();
    for file in files {
        let documents = text_documents(&file.text)
            .map_err(|error| Failure::usage(format!("{}: {error}", file.path.display())))?;
        all.extend(documents.into_iter().map(|document| Found {
            file,
            range: document.range,
            value: document.value,
        }));
    }
    Ok(all)
}

/// A resource name that no other key has.
fn check_name(name: &str, documents: &[Found<'_>]) -> Result<(), Failure> {
    let end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    let allowed = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    if bytes.len() > 63 || !bytes.iter().all(allowed) || !end(bytes.first()) || !end(bytes.last()) {
        return Err(Failure::usage(format!(
            "--name {name}: expected up to 63 lower-case letters, digits and hyphens, as a cluster \
             takes it"
        )));
    }
    let mut keys = documents.iter().filter(|found| found.is("ApiKey"));
    match keys.find(|found| found.name() == name) {
        Some(found) => Err(Failure::usage(format!(
            "--name {name}: {} has a key of this name already",
            found.file.path.display()
        ))),
        None => Ok(()),
    }
}

/// Picks the plan of a new key among those that are declared beside it.
fn check_plan(plan: &str, documents: &[Found<'_>]) -> Result<(), Failure> {
    let plans = documents.iter().filter(|found| found.is("Plan"));
    let names: Vec<_> = plans.map(Found::name).collect();
    if names.is_empty() || names.contains(&plan) {
        return Ok(());
    }
    let known = names.join(", ");
    Err(Failure::usage(format!(
        "--plan {plan}: the manifests declare no Plan of this name; known: {known}"
    )))
}

/// The key with this name or hash.
fn find<'a, 'b>(documents: &'b [Found<'a>], called: &str) -> Result<&'b Found<'a>, Failure> {
    let mut keys = documents.iter().filter(|found| found.is("ApiKey"));
    let found = keys.find(|found| found.name() == called || found.spec("hash") == Some(called));
    let found = found.ok_or_else(|| {
        Failure::usage(format!("the manifests declare no ApiKey named `{called}`"))
    })?;
    if found.spec("hash").is_none() {
        return Err(Failure::usage(format!(
            "ApiKey {called}: spec.hash is missing"
        )));
    }
    Ok(found)
}

/// Replaces a file atomically.
fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let attempt = || {
        let folder = path.parent().filter(|folder| *folder != Path::new(""));
        let mut file = NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
        file.write_all(text.as_bytes())?;
        file.as_file()
            .set_permissions(fs::metadata(path)?.permissions())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        std::io::Result::Ok(())
    };
    attempt().map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))
}

/// The output: the new text of a key, if there is one, and the manifest or the file that it was written to.
fn print_issued(
    output: Output,
    name: &str,
    text: Option<&KeyText>,
    manifest: &str,
    written: Option<&Path>,
) -> Result<(), Failure> {
    if output == Output::Json {
        let mut fields = Map::new();
        if let Some(text) = text {
            fields.insert("key".to_owned(), text.reveal().into());
            fields.insert("hash".to_owned(), text.hash().to_string().into());
        }
        fields.insert("name".to_owned(), name.into());
        match written {
            Some(path) => fields.insert("file".to_owned(), path.display().to_string().into()),
            None => fields.insert("manifest".to_owned(), manifest.into()),
        };
        return print::line(&Value::from(fields).to_string());
    }
    match (written, text) {
        (Some(path), Some(text)) => {
            let path = path.display();
            print::note(&format!(
                "wrote ApiKey {name} to {path}. The key is shown only now:"
            ));
            print::line(text.reveal())
        }
        (Some(path), None) => {
            print::note(&format!("wrote ApiKey {name} to {}", path.display()));
            Ok(())
        }
        (None, Some(text)) => {
            print::note(&format!(
                "the key, which is shown only now: {}",
                text.reveal()
            ));
            print::write(manifest)
        }
        (None, None) => print::write(manifest),
    }
}

// === impl Found ===

impl Found<'_> {
    fn is(&self, kind: &str) -> bool {
        self.value["kind"] == kind && self.value["spec"].is_object()
    }

    fn name(&self) -> &str {
        self.value["metadata"]["name"].as_str().unwrap_or_default()
    }

    fn spec(&self, field: &str) -> Option<&str> {
        self.value["spec"][field].as_str()
    }

    fn row(&self, now: u64) -> Row {
        let expires = self.spec("expiresAt").map(str::to_owned);
        let end = expires.as_deref().and_then(parse_moment);
        let disabled = self.value["spec"]["disabled"] == true;
        let hash = self.spec("hash").unwrap_or_default();
        Row {
            id: None,
            name: self.name().to_owned(),
            account: self.spec("account").unwrap_or(self.name()).to_owned(),
            plan: self.spec("plan").unwrap_or_default().to_owned(),
            key: hash.chars().take(12).chain(['…']).collect(),
            expires,
            state: match (disabled, end.is_some_and(|end| end <= now)) {
                (true, _) => "disabled",
                (_, true) => "expired",
                _ => "active",
            },
            limits: self.value["spec"]["limits"].clone(),
        }
    }

    /// The changed document, and the file if it was written there.
    fn change(
        &self,
        changes: &[document::Change<'_>],
        write: bool,
    ) -> Result<(String, Option<&Path>), Failure> {
        let text = &self.file.text[self.range.clone()];
        let body = text.trim_start_matches(['\r', '\n']);
        let document = document::changed(body, &self.value, changes);
        if !write {
            return Ok((document, None));
        }
        let path = self.file.path.as_path();
        if path.as_os_str() == "-" {
            return Err(Failure::usage(
                "--write needs a file, not standard input".to_owned(),
            ));
        }
        let lead = text.len() - body.len();
        let whole = [
            &self.file.text[..self.range.start + lead],
            &document,
            &self.file.text[self.range.end..],
        ];
        replace(path, &whole.concat())?;
        Ok((document, Some(path)))
    }
}
