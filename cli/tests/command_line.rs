//! The command line: its pages, its errors, its exit codes.

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

fn inferyard(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_inferyard"))
        .args(arguments)
        .output()
        .expect("the binary should start")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

#[test]
fn every_page_fits_the_screen_and_has_examples() {
    for arguments in [
        &["--help"][..],
        &["up", "--help"],
        &["router", "--help"],
        &["worker", "--help"],
        &["watch", "--help"],
        &["keys", "--help"],
        &["ledger", "--help"],
        &["usage", "--help"],
        &["audit", "--help"],
    ] {
        let output = inferyard(arguments);
        assert_eq!(output.status.code(), Some(0));
        let page = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(page.contains("\nExamples:\n  "), "{page}");
        assert!(!page.contains("exit-with-parent"), "{page}");
        for line in page.lines() {
            assert!(line.chars().count() <= 100, "{line}");
        }
    }
}

#[test]
fn the_version_is_printed() {
    let output = inferyard(&["--version"]);
    let expected = format!("inferyard {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}

#[test]
fn a_wrong_engine_ends_with_code_2_and_says_what_was_expected() {
    let url = "--engine-url";
    let table: [(&[&str], &str); 5] = [
        (&["--engine", "vllm"], "--engine-url <URL>"),
        (
            &["--engine", "x"],
            "[possible values: vllm, sglang, openai, simulated]",
        ),
        (
            &["--engine", "vllm", url, "http://10.0.0.1:8000"],
            "on the worker's own machine or in its pod",
        ),
        (
            &["--engine", "openai", url, "http://[::1]:1", "--gguf", "f"],
            "cannot be used with",
        ),
        (
            &[
                "--engine",
                "openai",
                url,
                "http://[::1]:1",
                "--threads",
                "1",
            ],
            "cannot be used with",
        ),
    ];
    for (arguments, expected) in table {
        let output = inferyard(&[&["worker", "--model", "m"], arguments].concat());
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
}

#[test]
fn the_embedded_engine_has_a_bound_of_its_own() {
    let too_many = ["--max-running", "255"];
    let demo = ["worker", "--model", "m", "--builtin", "demo"];
    let output = inferyard(&[&demo[..], &too_many].concat());
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    let expected = "--max-running: 255 is not in 1..=254";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn wrong_arguments_end_with_code_2_and_say_what_was_expected() {
    let hash = "0".repeat(63);
    let table: [(&[&str], &str); 12] = [
        (&["up"], "--file <FILE>"),
        (
            &["up", "-f", "missing.yaml"],
            "cannot read the manifest missing.yaml",
        ),
        (
            &["router", "-f", "q.yaml", "--worker", "demo"],
            "expected MODEL=ADDRESS, as in demo=127.0.0.1:50051",
        ),
        (
            &["router", "-f", "q.yaml", "--worker", "demo=nowhere"],
            "expected `host:port` or `unix:/path`",
        ),
        (
            &["router", "-f", "q.yaml", "--key-hash", &hash],
            "expected 64 lower-case hexadecimal digits",
        ),
        (&["worker", "--model", "m"], "--file <FILE>"),
        (
            &["worker", "--model", "m", "--builtin", "gpt"],
            "the only model that ships with Inferyard is `demo`",
        ),
        (
            &[
                "worker",
                "--model",
                "m",
                "--builtin",
                "demo",
                "--max-running",
                "0",
            ],
            "1..=4096",
        ),
        (
            &["watch", "nowhere"],
            "expected `host:port` or `unix:/path`",
        ),
        (
            &["ledger", "--redis", "r", "--store", "s", "--listen", "x"],
            "expected `IP:port`, as in 127.0.0.1:8090, or `unix:/path`",
        ),
        (
            &["usage", "--store", "s", "--from", "yesterday"],
            "expected a day as in 2026-11-22",
        ),
        (&["audit", "--store", "s"], "--worker <ADDRESS>"),
    ];
    for (arguments, expected) in table {
        let output = inferyard(arguments);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}

/// One test for each subcommand that reads manifests; what can be wrong in them is tested where they
/// are read.
#[test]
fn mistakes_in_manifests_are_all_printed_with_their_lines() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("q.yaml");
    let path = file.to_str().unwrap();
    let text = "\
apiVersion: inferyard.dev/v1alpha1
kind: ModelDeployment
metadata: {name: demo}
spec:
  model:
    source: {builtin: {name: demo}}
  scaling:
    replicas: two
  replica: 2
";
    fs::write(&file, text).unwrap();
    let expected = format!(
        "error: {path}:8: ModelDeployment demo: spec.scaling.replicas: expected a whole number from \
         0 to 1024, found \"two\"\n{path}:9: ModelDeployment demo: spec.replica: unknown field; known \
         here: accelerators, availability, chatTemplate, engine, model, nodeSelector, podTemplate, \
         rollout, scaling, tolerations or weights\n"
    );
    for arguments in [
        &["up", "-f", path][..],
        &["router", "-f", path],
        &["worker", "-f", path, "--model", "demo"],
    ] {
        let output = inferyard(arguments);
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(stderr(&output), expected);
    }
}

#[test]
fn standard_input_is_a_manifest_too() {
    let mut router = Command::new(env!("CARGO_BIN_EXE_inferyard"))
        .args(["router", "-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = router.stdin.take().unwrap();
    input.write_all(b"\nkind: Plan\n").unwrap();
    drop(input);
    let output = router.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let expected =
        "error: standard input:2: apiVersion: missing: expected inferyard.dev/v1alpha1\n";
    assert_eq!(stderr(&output), expected);
}

#[test]
fn a_model_that_no_manifest_declares_is_named() {
    let quickstart = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/quickstart.yaml");
    let router: &[&str] = &["router", "-f", quickstart, "--worker", "gpt=127.0.0.1:1"];
    for arguments in [router, &["worker", "-f", quickstart, "--model", "gpt"]] {
        let output = inferyard(arguments);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(
            said.contains("the manifests declare no model named `gpt`"),
            "{said}"
        );
    }
}

#[test]
fn nobody_to_watch_is_a_failure() {
    let output = inferyard(&["watch", "unix:/nonexistent/socket", "--once"]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("cannot connect to the worker at unix:/nonexistent/socket"),
        "{said}"
    );
}
