//! The life of `inferyard up`, with real processes and the real demo model.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, and so does what only tests call"
)]

mod processes;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use inferyard_test_servers::Port;
use processes::{Process, Up, get, send, until, watch_once};
use rustix::process::Signal;
use serde_json::Value;
use sha2::{Digest, Sha256};

const QUICKSTART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/quickstart.yaml");

fn start(state: &Path) -> Up {
    Up::start(QUICKSTART, state, &[])
}

#[test]
fn it_serves_and_a_signal_ends_every_process() {
    let state = tempfile::tempdir().unwrap();
    let mut up = start(state.path());
    assert_eq!(
        up.ready["models"],
        serde_json::json!(["demo", "abliterated-model"])
    );
    let key = up.ready["api_key"].as_str().unwrap();
    assert_eq!(up.get("/v1/models/abliterated-model", Some(key)), 200);
    assert_eq!(up.get("/v1/models", Some("iy-wrong")), 401);
    assert_eq!(up.get("/readyz", None), 200);
    let socket = up.worker(0)["address"]
        .as_str()
        .unwrap()
        .trim_start_matches("unix:")
        .to_owned();
    let folder = Path::new(&socket).parent().unwrap();
    assert!(folder.exists());

    up.process.signal(Signal::INT);
    assert_eq!(up.process.end().code(), Some(0));
    assert_eq!(
        up.process.stdout.end(),
        "",
        "one line on standard output, no more"
    );
    assert!(!folder.exists(), "the private folder is removed");
}

#[test]
fn a_killed_worker_is_started_again() {
    let state = tempfile::tempdir().unwrap();
    let mut up = start(state.path());
    let address = up.worker(0)["address"].as_str().unwrap().to_owned();
    let before = watch_once(&address).unwrap();
    assert_eq!(before["phase"], "READY");

    send(Up::pid(&up.worker(0)["pid"]), Signal::KILL);
    up.process
        .stderr
        .wait_for("the worker demo-0 was killed by signal 9; restarting it");
    up.process.stderr.wait_for("worker demo-0: ready");
    let after = watch_once(&address).unwrap();
    assert_eq!(after["phase"], "READY");
    assert_ne!(before["instance_id"], after["instance_id"]);
}

#[test]
fn a_killed_router_comes_back_on_its_port_and_knows_the_key() {
    let state = tempfile::tempdir().unwrap();
    let mut up = start(state.path());
    send(Up::pid(&up.ready["router_pid"]), Signal::KILL);
    up.process
        .stderr
        .wait_for("the router was killed by signal 9; restarting it");
    let key = up.ready["api_key"].as_str().unwrap();
    let status = until(|| get(up.address(), "/v1/models", Some(key)));
    assert_eq!(status, 200);
}

/// Whoever reads the output of one start finds all that the parts need of each other.
#[test]
fn one_router_by_default_and_an_admin_key() {
    let state = tempfile::tempdir().unwrap();
    let up = start(state.path());
    let ready = &up.ready;
    assert_eq!(
        ready["base_urls"],
        serde_json::json!([ready["base_url"].as_str().unwrap()])
    );
    assert_eq!(
        ready["router_pids"],
        serde_json::json!([ready["router_pid"].as_u64().unwrap()])
    );
    assert_eq!(ready["ledger_pid"], Value::Null);
    let store = format!("sqlite:{}", state.path().join("ledger.sqlite").display());
    assert_eq!(ready["store"].as_str(), Some(&*store));
    let admin = ready["admin_key"].as_str().unwrap();
    assert!(admin.starts_with("iy-admin-"));
    let kept = fs::read_to_string(state.path().join("admin-keys")).unwrap();
    assert!(kept.contains(&sha256(admin)) && !kept.contains(&admin[9..]));
}

#[test]
fn several_routers_without_redis_are_refused() {
    let mut up = Process::start(&["up", "-f", QUICKSTART, "--routers", "2"]);
    assert_eq!(up.end().code(), Some(2));
    let said = up.stderr.end();
    assert!(
        said.starts_with("error: --routers 2 needs --redis URL: several routers must count"),
        "{said}"
    );
}

#[test]
fn a_redis_that_is_not_there_is_an_error_that_repeats_no_password() {
    let port = Port::take();
    let url = format!("redis://user:secret-word@127.0.0.1:{}", port.number());
    let mut up = Process::start(&["up", "-f", QUICKSTART, "--redis", &url]);
    assert_eq!(up.end().code(), Some(1));
    let said = up.stderr.end();
    assert!(
        said.contains("the Redis of --redis cannot be used") && !said.contains("secret-word"),
        "{said}"
    );
    let mut up = Process::start(&["up", "-f", QUICKSTART, "--redis", "nowhere"]);
    assert_eq!(up.end().code(), Some(2));
    let said = up.stderr.end();
    assert!(
        said.contains("not an address of Redis: expected redis://"),
        "{said}"
    );
}

/// Nothing can be tidied up then, but nothing may go on running either.
#[test]
fn no_process_outlives_a_killed_up() {
    let state = tempfile::tempdir().unwrap();
    let mut up = start(state.path());
    up.process.signal(Signal::KILL);
    assert_eq!(
        up.process.end().code(),
        None,
        "the end of standard error is the end of all"
    );
}

#[test]
fn a_busy_port_is_named() {
    let state = tempfile::tempdir().unwrap();
    let first = start(state.path());
    let address = first.address().to_string();
    let state = state.path().to_str().unwrap();
    let mut second = Process::start(&[
        "up", "-f", QUICKSTART, "--state", state, "--listen", &address,
    ]);
    assert_eq!(second.end().code(), Some(1));
    let said = second.stderr.end();
    assert!(
        said.contains(&format!("cannot start the router on {address}; --listen"))
            && said.matches("Address already in use").count() <= 2,
        "{said}"
    );
    assert_eq!(first.get("/readyz", None), 200, "the first one goes on");
}

#[test]
fn a_key_stays_valid_after_the_next_start_and_is_kept_as_a_hash() {
    let state = tempfile::tempdir().unwrap();
    let first = start(state.path());
    let key = first.ready["api_key"].as_str().unwrap().to_owned();
    drop(first);
    let second = start(state.path());
    assert_ne!(second.ready["api_key"], Value::String(key.clone()));
    assert_eq!(second.get("/v1/models", Some(&key)), 200);
    assert!(
        !fs::read_to_string(state.path().join("keys"))
            .unwrap()
            .contains(&key[3..])
    );
}

/// Whoever declares keys has them already.
#[test]
fn with_keys_in_the_manifests_none_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let manifests = folder.path().join("manifests");
    fs::create_dir(&manifests).unwrap();
    fs::copy(QUICKSTART, manifests.join("model.yaml")).unwrap();
    let keys = "\
apiVersion: inferyard.dev/v1alpha1
kind: Plan
metadata: {name: basic}
spec: {models: [demo]}
---
apiVersion: inferyard.dev/v1alpha1
kind: ApiKey
metadata: {name: test}
spec:
  plan: basic
  hash: HASH
";
    let keys = keys.replace("HASH", &sha256("iy-test"));
    fs::write(manifests.join("keys.yaml"), keys).unwrap();
    let state = folder.path().join("state");
    let up = Up::start(manifests.to_str().unwrap(), &state, &[]);
    assert_eq!(up.ready["api_key"], Value::Null);
    assert_eq!(up.get("/v1/models", Some("iy-test")), 200);
    assert!(!state.join("keys").exists());
}

#[test]
fn a_model_that_cannot_be_read_ends_it_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("broken.gguf"), b"not a model").unwrap();
    let manifest = folder.path().join("q.yaml");
    let quickstart = fs::read_to_string(QUICKSTART).unwrap();
    let source = "      builtin:\n        name: demo\n";
    assert!(quickstart.contains(source));
    fs::write(
        &manifest,
        quickstart.replace(source, "      file: {path: broken.gguf}\n"),
    )
    .unwrap();
    let state = folder.path().to_str().unwrap();
    let manifest = manifest.to_str().unwrap();
    let mut up = Process::start(&[
        "up",
        "-f",
        manifest,
        "--state",
        state,
        "--listen",
        "127.0.0.1:0",
    ]);
    assert_eq!(up.end().code(), Some(1));
    let said = up.stderr.end();
    let (_, error) = said.split_once("\nerror: ").expect("an error in the end");
    assert!(
        error.starts_with("the worker demo-0 ended with exit code 1"),
        "{said}"
    );
    assert!(error.contains("broken.gguf"), "{said}");
}

/// The first signal lets the answer go on; the second does not.
#[test]
fn a_second_signal_ends_a_running_answer() {
    let state = tempfile::tempdir().unwrap();
    let mut up = start(state.path());
    let mut answer = open_endless_stream(&up);
    up.process.signal(Signal::INT);
    up.process.stderr.wait_for("stopping");
    let mut bytes = [0; 1024];
    for _ in 0..20 {
        assert!(answer.read(&mut bytes).unwrap() > 0, "the answer goes on");
    }
    up.process.signal(Signal::INT);
    assert_eq!(up.process.end().code(), Some(0));
}

/// A stream whose first bytes are there.
fn open_endless_stream(up: &Up) -> TcpStream {
    let key = up.ready["api_key"].as_str().unwrap();
    let body =
        r#"{"model":"demo","stream":true,"messages":[{"role":"user","content":"Repeat: x"}]}"#;
    let mut stream = TcpStream::connect(up.address()).unwrap();
    stream.set_read_timeout(Some(processes::PATIENCE)).unwrap();
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut head = Vec::new();
    while !String::from_utf8_lossy(&head).contains("data: ") {
        let mut bytes = [0; 1024];
        let length = stream.read(&mut bytes).unwrap();
        assert!(length > 0, "{}", String::from_utf8_lossy(&head));
        head.extend_from_slice(&bytes[..length]);
    }
    assert!(
        head.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&head)
    );
    stream
}

/// The same parts, by hand, over TCP.
#[test]
fn a_worker_and_a_router_run_alone() {
    let mut worker = Process::start(&[
        "worker",
        "-f",
        QUICKSTART,
        "--model",
        "demo",
        "--listen",
        "127.0.0.1:0",
    ]);
    let line = worker.stdout.wait_for("listening on ");
    let served = format!("demo={}", line.trim_start_matches("listening on "));
    let mut router = Process::start(&[
        "router",
        "-f",
        QUICKSTART,
        "--worker",
        &served,
        "--listen",
        "127.0.0.1:0",
        "--key-hash",
        &sha256("iy-test"),
        "--json",
    ]);
    let line = router.stdout.wait_for("address");
    let addresses: Value = serde_json::from_str(&line).unwrap();
    let address = addresses["address"].as_str().unwrap().parse().unwrap();
    until(|| (get(address, "/readyz", None)? == 200).then_some(()));
    assert_eq!(get(address, "/v1/models", Some("iy-test")), Some(200));
    for part in [&mut router, &mut worker] {
        part.signal(Signal::TERM);
        assert_eq!(part.end().code(), Some(0));
    }
}

/// Anyone may ask for what is not there, as often as the network carries.
#[test]
fn a_flood_of_refusals_is_a_short_log() {
    const FLOOD: usize = 3_000;
    let mut router = Process::start(&[
        "router",
        "-f",
        QUICKSTART,
        "--listen",
        "127.0.0.1:0",
        "--metrics-listen",
        "127.0.0.1:0",
        "--json",
    ]);
    let line = router.stdout.wait_for("address");
    let addresses: Value = serde_json::from_str(&line).unwrap();
    let at = |name: &str| {
        addresses[name]
            .as_str()
            .unwrap()
            .parse::<SocketAddr>()
            .unwrap()
    };
    let mut stream = TcpStream::connect(at("address")).unwrap();
    let mut answers = stream.try_clone().unwrap();
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        answers.read_to_string(&mut text).unwrap();
        text.matches("HTTP/1.1 404 ").count()
    });
    let flood = "GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n".repeat(FLOOD - 1);
    stream.write_all(flood.as_bytes()).unwrap();
    let last = b"GET /nowhere HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(last).unwrap();
    assert_eq!(reading.join().unwrap(), FLOOD);

    let mut metrics = TcpStream::connect(at("metrics_address")).unwrap();
    metrics
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    metrics.read_to_string(&mut text).unwrap();
    let counted = format!("code=\"unknown_url\"}} {FLOOD}\n");
    assert!(text.contains(&counted), "{text}");

    router.signal(Signal::TERM);
    let log = router.stderr.end();
    assert_eq!(router.end().code(), Some(0));
    // 50 in each ten seconds, however long it took here.
    let lines = log.lines().filter(|line| line.contains("unknown_url"));
    assert!((50..FLOOD / 4).contains(&lines.count()), "{log}");
}

fn sha256(text: &str) -> String {
    let hash = Sha256::digest(text);
    hash.iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
