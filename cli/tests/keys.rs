//! `inferyard keys`: what it prints is what a router takes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use inferyard_keys::KeyHash;
use inferyard_manifests::{Manifests, read};
use inferyard_test_servers::{Redis, needs};
use serde_json::Value;

const PLANS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/plans.yaml");
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/quickstart.yaml");

fn keys(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_inferyard"))
        .arg("keys")
        .args(arguments)
        .env_remove("INFERYARD_REDIS")
        .output()
        .unwrap()
}

/// What it printed, where it went well.
fn well(arguments: &[&str]) -> String {
    let output = keys(arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Exit code and error.
fn ill(arguments: &[&str]) -> (i32, String) {
    let output = keys(arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), said)
}

/// What a router knows from these manifests of a key's text: its name, whether it is disabled, and
/// whether it ends.
fn known(file: &Path, text: &str) -> Option<(String, bool, bool)> {
    let files = read(&[MODEL.into(), PLANS.into(), file.to_owned()]).unwrap();
    let manifests = Manifests::parse(&files).unwrap();
    let catalog = manifests.catalog(&[].into(), []);
    let key = catalog.keys.get(&KeyHash::of(text.trim().as_bytes()))?;
    Some((
        key.name.as_deref().unwrap().to_owned(),
        key.disabled,
        key.expires.is_some(),
    ))
}

#[test]
fn a_key_in_a_manifest_from_its_making_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.yaml");
    fs::write(&file, "# Keys of our people.\n").unwrap();
    let path = file.to_str().unwrap();
    let create = ["create", "--plan", "team", "-f", path, "--write", "--name"];
    let limited = [
        "alice",
        "--requests-per-day",
        "5",
        "--budget-per-month",
        "2.50",
    ];
    let first = well(&[&create[..], &limited].concat());
    let other = well(&[&create[..], &["bob", "--expires", "90d"]].concat());
    let alive = |ends| Some(("alice".to_owned(), false, ends));
    assert_eq!(known(&file, &first), alive(false));
    assert_eq!(known(&file, &other), Some(("bob".to_owned(), false, true)));

    let second = well(&["rotate", "alice", "-f", path, "--write"]);
    assert_eq!(known(&file, &first), alive(true), "the overlap");
    assert_eq!(known(&file, &second), alive(false));
    let third = well(&["rotate", "alice", "-f", path, "--write", "--overlap", "0"]);
    assert_eq!((known(&file, &first), known(&file, &second)), (None, None));
    assert_eq!(known(&file, &third), alive(false));

    // Without --write the file stays as it is.
    let before = fs::read_to_string(&file).unwrap();
    let printed = well(&["revoke", "alice", "-f", path]);
    assert!(printed.contains("\n  disabled: true\n"), "{printed}");
    assert_eq!(fs::read_to_string(&file).unwrap(), before);
    well(&["revoke", "alice", "-f", path, "--write"]);
    assert!(known(&file, &third).unwrap().1);
    assert!(!known(&file, &other).unwrap().1);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("# Keys of our people.\n"), "{text}");
    for key in [first, second, third, other] {
        assert!(!text.contains(&key.trim()[4..42]));
    }
    let list = well(&["list", "-f", path]);
    let states: Vec<_> = list
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .collect();
    assert_eq!(states, ["STATE", "disabled", "active"], "{list}");
}

#[test]
fn a_printed_manifest_is_taken_and_the_key_is_not_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.yaml");
    let output = keys(&["create", "--plan", "free"]);
    fs::write(&file, &output.stdout).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let text = said.trim().rsplit(' ').next().unwrap();
    assert!(known(&file, text).is_some_and(|(name, ..)| name.starts_with("key-")));

    let json: Value =
        serde_json::from_str(&well(&["create", "--plan", "p", "--output", "json"])).unwrap();
    let text = json["key"].as_str().unwrap();
    assert_eq!(json["hash"], KeyHash::of(text.as_bytes()).to_string());
    assert!(!json["manifest"].as_str().unwrap().contains(text));
}

#[test]
fn what_is_wrong_is_said_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.yaml");
    let path = file.to_str().unwrap();
    fs::copy(PLANS, &file).unwrap();
    well(&[
        "create", "--plan", "team", "--name", "alice", "-f", path, "--write",
    ]);
    well(&["revoke", "alice", "-f", path, "--write"]);
    let before = fs::read_to_string(&file).unwrap();
    let create = ["create", "--plan", "team", "-f", path, "--write"];
    let table: [(&[&str], &[&str], &str); 11] = [
        (
            &create,
            &["--name", "alice"],
            "has a key of this name already",
        ),
        (
            &create,
            &["--name", "Al_ice"],
            "lower-case letters, digits and hyphens",
        ),
        (
            &create,
            &["--expires", "1970-01-01"],
            "expected a moment in the future",
        ),
        (
            &create,
            &["--expires", "soon"],
            "expected a time such as 90d",
        ),
        (&create, &["--requests-total", "0"], "0 is not in 1.."),
        (&create, &["--budget-per-month", "$5"], "as in 25.00"),
        (&create, &["-f", PLANS], "--write needs one file"),
        (
            &["create", "--plan", "gold", "-f", path],
            &[],
            "known: free, starter, team",
        ),
        (
            &["rotate", "alice", "-f", path, "--write"],
            &[],
            "alice is disabled",
        ),
        (&["revoke", "eve", "-f", path], &[], "no ApiKey named `eve`"),
        (&["list"], &[], "-f FILE for manifests, --redis URL"),
    ];
    for (arguments, more, expected) in table {
        let (code, said) = ill(&[arguments, more].concat());
        assert_eq!(code, 2, "{said}");
        assert!(said.contains(expected), "{said}");
        assert_eq!(fs::read_to_string(&file).unwrap(), before);
    }
}

#[test]
fn keys_in_redis() {
    needs!(Redis);
    let redis = Redis::start();
    let at = ["--redis", &redis.url()];
    let create = ["create", "--plan", "team", "--account", "acme", "--name"];
    let first = well(&[&create[..], &["ci"], &at].concat());
    well(&[&create[..], &["web"], &at].concat());
    let json = well(&[&["list", "--output", "json"][..], &at].concat());
    let rows: Vec<Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let names: Vec<_> = rows
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["ci", "web"]);
    let page = keys(&[&["list", "--limit", "1"][..], &at].concat());
    let id = rows[0]["id"].as_str().unwrap();
    let said = String::from_utf8(page.stderr).unwrap();
    assert_eq!(said, format!("there are more: --after {id}\n"));

    let second = well(&[&["rotate", "ci"][..], &at].concat());
    assert_ne!(first, second);
    let redacted = format!("{}...{}", &second[..4], &second[42..46]);
    let revoked = well(&[&["revoke", &redacted][..], &at].concat());
    assert!(revoked.starts_with(&format!("revoked {id}: ")), "{revoked}");
    let (code, said) = ill(&[&["rotate", id][..], &at].concat());
    assert_eq!(
        (code, said.as_str()),
        (2, "error: the key is revoked: create a new one\n")
    );
    let (code, said) = ill(&[&["revoke", "nobody"][..], &at].concat());
    assert_eq!(code, 2);
    assert!(said.contains("no key of this id, name"), "{said}");
    let (code, said) = ill(&["create", "--plan", "team", "--name", "x", at[0], at[1]]);
    assert_eq!(code, 2);
    assert!(said.contains("needs --name and --account"), "{said}");
    let (code, said) = ill(&["list", "--redis", "redis://127.0.0.1:1"]);
    assert_eq!(code, 1);
    assert!(
        said.contains("the key store in Redis failed: Connection refused"),
        "{said}"
    );
    let (code, said) = ill(&["list", "--redis", "localhost"]);
    assert_eq!(code, 2);
    assert!(said.contains("expected redis://"), "{said}");
}
