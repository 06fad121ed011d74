//! The committed definitions are what the Rust types generate, and small enough for a cluster.

use std::fs;
use std::path::Path;

/// A definition above this size is a burden for every client that lists it.
const MAX_BYTES: usize = 100 * 1024;

/// A difference is written over the committed file, so that running the test a second time passes
/// and the diff shows in git.
#[test]
fn committed_definitions_are_current() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("yaml");
    let mut outdated = Vec::new();
    for definition in inferyard_crds::definitions() {
        let name = format!("{}.yaml", definition.spec.names.plural);
        let json = serde_json::to_value(&definition).expect("a definition should be JSON");
        let fresh = serde_saphyr::to_string(&json).expect("JSON should be YAML");
        assert!(fresh.len() < MAX_BYTES, "{name} has {} bytes", fresh.len());
        let committed = folder.join(&name);
        if fs::read_to_string(&committed).unwrap_or_default() != fresh {
            fs::write(&committed, fresh).expect("the generated file should be writable");
            outdated.push(name);
        }
    }
    assert!(
        outdated.is_empty(),
        "{outdated:?} in crds/yaml were out of date and have been rewritten: commit them"
    );
}
