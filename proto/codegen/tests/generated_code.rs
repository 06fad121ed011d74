//! The committed Rust code is what the `.proto` files generate.

use std::fs;
use std::path::Path;

use inferyard_proto_codegen::{FILES, generate};

/// A difference is written over the committed file, so that running the test a second time passes
/// and the diff shows in git.
#[test]
fn committed_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the folder of the protos is above");
    let mut rewritten = Vec::new();
    for (proto, generated) in FILES {
        let fresh = generate(root, proto, generated).expect("code should be generated");
        let committed = root.join("src/generated").join(generated);
        if fs::read_to_string(&committed).unwrap_or_default() != fresh {
            fs::write(&committed, fresh).expect("the generated file should be writable");
            rewritten.push(committed);
        }
    }
    assert!(
        rewritten.is_empty(),
        "out of date and rewritten, commit them: {rewritten:?}"
    );
}
