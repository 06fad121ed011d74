//! HTTPS: clients that verify the certificate, and a certificate that is renewed while the router runs.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use inferyard_router::{BindError, Config, Router, TlsFiles};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::support::{STREAMED, ScriptedWorker, TestRouter, catalog, eventually, request, within};

/// A folder like a mounted Secret: the files are links through a link that is swapped atomically.
struct Mounted {
    folder: TempDir,
    versions: u32,
}

impl Mounted {
    fn new(key: &CertifiedKey<rcgen::KeyPair>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["tls.crt", "tls.key"] {
            symlink(format!("..data/{name}"), folder.path().join(name)).unwrap();
        }
        let mut mounted = Self {
            folder,
            versions: 0,
        };
        mounted.renew(&key.cert.pem(), &key.signing_key.serialize_pem());
        mounted
    }

    fn renew(&mut self, certificate: &str, key: &str) {
        self.versions += 1;
        let root = self.folder.path();
        let version = format!("..{}", self.versions);
        fs::create_dir(root.join(&version)).unwrap();
        fs::write(root.join(&version).join("tls.crt"), certificate).unwrap();
        fs::write(root.join(&version).join("tls.key"), key).unwrap();
        symlink(&version, root.join("..new")).unwrap();
        fs::rename(root.join("..new"), root.join("..data")).unwrap();
    }

    fn files(&self) -> TlsFiles {
        files(self.folder.path())
    }
}

fn files(folder: &Path) -> TlsFiles {
    TlsFiles {
        certificate: folder.join("tls.crt"),
        key: folder.join("tls.key"),
    }
}

fn new_key() -> CertifiedKey<rcgen::KeyPair> {
    generate_simple_self_signed(vec!["router.example".to_owned()]).unwrap()
}

/// A connection that trusts only these certificates.
async fn connect(
    address: SocketAddr,
    trusted: &[&CertificateDer<'static>],
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await.unwrap();
    shake(stream, trusted).await
}

async fn shake(
    stream: TcpStream,
    trusted: &[&CertificateDer<'static>],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for certificate in trusted {
        roots.add((*certificate).clone()).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = ServerName::try_from("router.example").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

/// Reads until the received text contains `end`.
async fn read_until(stream: &mut TlsStream<TcpStream>, end: &str) -> String {
    let mut bytes = Vec::new();
    within(async {
        while !String::from_utf8_lossy(&bytes).contains(end) {
            assert_ne!(
                stream.read_buf(&mut bytes).await.unwrap(),
                0,
                "it has ended"
            );
        }
    })
    .await;
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_new_connections_and_breaks_no_old_one() {
    let (first, second) = (new_key(), new_key());
    let mut mounted = Mounted::new(&first);
    let mut worker = ScriptedWorker::start().await;
    let files = mounted.files();
    let router = TestRouter::configured(&[&worker], |config| config.tls = Some(files)).await;

    let mut open = connect(router.address, &[first.cert.der()]).await.unwrap();
    assert_eq!(open.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let chat = request("POST", "/v1/chat/completions", STREAMED);
    open.write_all(&chat).await.unwrap();
    let call = worker.call().await;
    assert!(connect(router.address, &[second.cert.der()]).await.is_err());

    // A certificate without its key is not used; the pair is used without a restart.
    mounted.renew(&second.cert.pem(), &first.signing_key.serialize_pem());
    mounted.renew(&second.cert.pem(), &second.signing_key.serialize_pem());
    eventually(async || connect(router.address, &[second.cert.der()]).await.is_ok()).await;
    assert!(connect(router.address, &[first.cert.der()]).await.is_err());

    call.say_hello().await;
    let answer = read_until(&mut open, "data: [DONE]\n\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    open.write_all(&request("GET", "/v1/models", ""))
        .await
        .unwrap();
    read_until(&mut open, "\"id\":\"m\"").await;
    drop(open);
    router.end().await;
}

#[tokio::test]
async fn metrics_and_probes_are_plain_on_their_own_port() {
    let mounted = Mounted::new(&new_key());
    let files = mounted.files();
    let router = TestRouter::unready(catalog(vec![]), |config| config.tls = Some(files)).await;
    for (path, status) in [
        ("/metrics", "200"),
        ("/healthz", "200"),
        ("/readyz", "503"),
        ("/readyz?any", "503"),
        ("/readyz?router", "200"),
        ("/v1/models", "404"),
    ] {
        let mut stream = TcpStream::connect(router.metrics).await.unwrap();
        let text = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        within(stream.read_to_string(&mut answer)).await.unwrap();
        let expected = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&expected), "{path}: {answer}");
    }
    router.end().await;
}

#[tokio::test]
async fn who_speaks_no_tls_is_let_go() {
    let mounted = Mounted::new(&new_key());
    let files = mounted.files();
    let router = TestRouter::unready(catalog(vec![]), |config| {
        config.tls = Some(files);
        config.first_request_timeout = Duration::from_millis(200);
    })
    .await;
    let mut clear = TcpStream::connect(router.address).await.unwrap();
    clear.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut silent = TcpStream::connect(router.address).await.unwrap();
    for stream in [&mut clear, &mut silent] {
        let mut answer = Vec::new();
        // The connection ends or is reset; the client gets no HTTP.
        within(stream.read_to_end(&mut answer)).await.ok();
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    }
    router.end().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_left_behind_tls_too() {
    let key = new_key();
    let mounted = Mounted::new(&key);
    let files = mounted.files();
    let mut worker = ScriptedWorker::start().await;
    let router = TestRouter::configured(&[&worker], |config| {
        config.tls = Some(files);
        config.request_timeout = Duration::from_millis(500);
        config.write_timeout = Duration::from_millis(500);
    })
    .await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(router.address).await.unwrap();
    let mut stalled = shake(stream, &[key.cert.der()]).await.unwrap();
    let chat = request("POST", "/v1/chat/completions", STREAMED);
    stalled.write_all(&chat).await.unwrap();
    let pump = tokio::spawn(worker.call().await.pump(usize::MAX));
    within(pump).await.unwrap();
    eventually(async || {
        let metrics = router.scrape().await;
        metrics.contains("inferyard_router_requests_in_flight 0\n")
            && metrics.contains("inferyard_router_connections 0\n")
    })
    .await;
    drop(stalled);
    router.end().await;
}

#[tokio::test]
async fn files_that_do_not_answer_stop_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    let key = new_key();
    fs::write(&files.certificate, key.cert.pem()).unwrap();
    fs::write(&files.key, key.signing_key.serialize_pem()).unwrap();
    let config = Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        tls: Some(files.clone()),
        ..Config::default()
    };
    let router = Router::bind(config).await.unwrap();
    let address = router.address();
    // A FIFO: opening it blocks until there is a writer, and reading it blocks until the writer writes.
    fs::remove_file(&files.key).unwrap();
    mknodat(CWD, &files.key, FileType::Fifo, Mode::RWXU, 0).unwrap();
    let (_catalogs, receiver) = watch::channel(Arc::new(catalog(vec![])));
    let shutdown = CancellationToken::new();
    let run = tokio::spawn(router.run(receiver, shutdown.clone()));
    // Fails while there is no reader.
    let nobody_reads = || open(&files.key, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty());
    let mut writer = None;
    eventually(async || {
        writer = nobody_reads().ok();
        writer.is_some()
    })
    .await;
    let mut client = within(connect(address, &[key.cert.der()])).await.unwrap();
    client
        .write_all(&request("GET", "/v1/models", ""))
        .await
        .unwrap();
    read_until(&mut client, "\"id\":\"m\"").await;
    drop(writer);
    shutdown.cancel();
    within(run).await.unwrap().unwrap();
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    let (one, other) = (new_key(), new_key());
    let (pem, key) = (one.cert.pem(), one.signing_key.serialize_pem());
    let other_key = other.signing_key.serialize_pem();
    let large = "x".repeat(2 << 20);
    for (certificate, key, expected) in [
        (None, None, "cannot read "),
        (Some(&pem), None, "tls.key"),
        (
            Some(&key),
            Some(&key),
            "tls.crt holds no certificate as PEM",
        ),
        (
            Some(&pem),
            Some(&pem),
            "tls.key holds no unencrypted private key",
        ),
        (Some(&pem), Some(&other_key), "cannot use the certificate "),
        (Some(&pem), Some(&large), "tls.key has more than 1024 KiB"),
    ] {
        for (path, text) in [(&files.certificate, certificate), (&files.key, key)] {
            if let Some(text) = text {
                fs::write(path, text).unwrap();
            }
        }
        let config = Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls: Some(files.clone()),
            ..Config::default()
        };
        let error = Router::bind(config).await.err().unwrap();
        assert!(matches!(error, BindError::Tls(_)));
        assert!(error.to_string().contains(expected), "{error}");
    }
}
