//! How the process ends decides; a script stands for it. What the real one does is among the black-box tests.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;

/// A sandbox whose process is this script, after it has read its input.
fn sandbox(folder: &Path, script: &str) -> Sandbox {
    let program = folder.join("program");
    fs::write(
        &program,
        format!("#!/bin/sh\ncat >> {}/read\n{script}\n", folder.display()),
    )
    .unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    Sandbox::new(Some(program))
}

fn schema(at: usize) -> (Form, Schema) {
    let schema = Schema {
        text: format!(r#"{{"const":{at}}}"#).into(),
        path: format!("tools[{at}]"),
        strict: at == 0,
    };
    (Form::Object, schema)
}

#[tokio::test]
async fn schemas_that_passed_pass_again_without_a_process() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = sandbox(folder.path(), "");
    let both = [schema(0), schema(1)];
    sandbox.admit(&both).await.unwrap();
    let read = fs::read_to_string(folder.path().join("read")).unwrap();
    let first = r#"{"text":"{\"const\":0}","strict":true,"arguments":true}"#;
    let second = r#"{"text":"{\"const\":1}","strict":false,"arguments":true}"#;
    assert_eq!(read, format!("[{first},{second}]"));
    sandbox.admit(&both).await.unwrap();
    sandbox.admit(&[]).await.unwrap();
    assert_eq!(
        fs::read_to_string(folder.path().join("read")).unwrap(),
        read
    );
    // Each alone passed, but not the two in another order.
    sandbox.admit(&[schema(1), schema(0)]).await.unwrap();
    assert_ne!(
        fs::read_to_string(folder.path().join("read")).unwrap(),
        read
    );
}

#[tokio::test]
async fn the_schema_that_took_too_much_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for end in [
        "kill -XCPU $$",
        "kill -ABRT $$",
        "kill -SEGV $$",
        "exit 101",
    ] {
        let sandbox = sandbox(folder.path(), &format!("printf .\n{end}"));
        for _ in 0..2 {
            let error = sandbox.admit(&[schema(0), schema(1), schema(2)]).await;
            let error = error.unwrap_err();
            assert_eq!(
                error.to_string(),
                "'tools[1]' cannot be enforced: compiling it takes too long, or too much memory.",
                "{end}"
            );
        }
    }
}

#[tokio::test]
async fn a_process_that_does_not_work_is_no_fault_of_a_schema() {
    let folder = tempfile::tempdir().unwrap();
    for end in ["exit 1", "printf .; kill -KILL $$"] {
        let broken = sandbox(folder.path(), end).admit(&[schema(0)]).await;
        assert!(matches!(broken, Err(SandboxError::Broken(_))), "{end}");
    }
    let nowhere = Sandbox::new(Some(folder.path().join("none")));
    let broken = nowhere.admit(&[schema(0)]).await;
    assert!(matches!(broken, Err(SandboxError::Broken(_))));
}
