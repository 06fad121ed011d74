//! The committed Rust code is what the `.proto` files generate.

use std::fs;
use std::path::Path;

/// A difference is written over the committed file, so that running the test a second time passes
/// and the diff shows in git.
#[test]
fn committed_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the folder of the protos is above");
    let fresh = inferyard_proto_codegen::generate(root).expect("code should be generated");
    let committed = root.join("src/generated/inferyard.worker.v1.rs");
    if fs::read_to_string(&committed).unwrap_or_default() != fresh {
        fs::write(&committed, fresh).expect("the generated file should be writable");
        panic!(
            "{} was out of date and has been rewritten: commit it",
            committed.display()
        );
    }
}
