//! Calls to the outside by the real binary: TLS against an authority of the test's own, and the addresses that are refused
//! in each of their places.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

use super::server::{Options, Server};

/// What a receiver has got, and how often.
#[derive(Clone, Default)]
struct Got(Arc<(AtomicUsize, std::sync::Mutex<Vec<Value>>)>);

impl Got {
    fn count(&self) -> usize {
        self.0.0.load(Ordering::Relaxed)
    }

    fn bodies(&self) -> Vec<Value> {
        self.0.1.lock().unwrap().clone()
    }
}

/// Reads one request and answers it.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, got: &Got) {
    got.0.0.fetch_add(1, Ordering::Relaxed);
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let Ok(count @ 1..) = stream.read(&mut buffer).await else { return };
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes);
        if let Some((_, body)) = text.split_once("\r\n\r\n")
            && let Ok(body) = serde_json::from_str(body)
        {
            got.0.1.lock().unwrap().push(body);
            let _ = stream.write_all(OK.as_bytes()).await;
            let _ = stream.shutdown().await;
            return;
        }
    }
}

const OK: &str = "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n";

/// A receiver with TLS. Returns its port, what it got, and the certificate of its authority.
async fn with_tls() -> (u16, Got, String) {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let authority_cert = authority.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let cert = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![cert.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let got = Got::default();
    let seen = got.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(stream) = acceptor.accept(stream).await {
                answer(stream, &seen).await;
            }
        }
    });
    (port, got, authority_cert.pem())
}

/// A receiver without TLS. Returns its port and what it got.
async fn plain() -> (u16, Got) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let got = Got::default();
    let seen = got.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            answer(stream, &seen).await;
        }
    });
    (port, got)
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(Instant::now() < deadline, "waited for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_speak_tls_and_reach_what_is_allowed_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let dags = folder.path().join("dags");
    fs::create_dir_all(&dags).unwrap();
    let (tls_port, by_tls, authority) = with_tls().await;
    let ca = folder.path().join("ca.pem");
    fs::write(&ca, authority).unwrap();
    let (inside_port, inside) = plain().await;
    let hook = format!("https://localhost:{tls_port}/hook");
    // The same server under its address, which is not allowed; `[dag]` speaks from the server, tasks from the worker.
    let address = format!("http://127.0.0.1:{inside_port}/");
    fs::write(
        dags.join("speaks.toml"),
        format!(
            r#"[dag]
id = "speaks"
on_success = [{{ webhook = "{hook}" }}]
on_failure = [{{ webhook = "{hook}" }}, {{ webhook = "{address}" }}]

[[task]]
id = "by_tls"
operator = "notify"
webhook = "{hook}"
message = "hello"

[[task]]
id = "inside"
operator = "notify"
webhook = "{address}"

[[task]]
id = "decimal"
operator = "notify"
webhook = "http://2130706433:{inside_port}/"

[[task]]
id = "no_name"
operator = "notify"
webhook = "https://127.0.0.1:{tls_port}/"
"#
        ),
    )
    .unwrap();
    let mut options = Options::new(&dags, &folder.path().join("data"));
    options.env.insert("TIDEMILL_OUTBOUND_ALLOW".to_owned(), "localhost".to_owned());
    options.env.insert("SSL_CERT_FILE".to_owned(), ca.display().to_string());
    let server = Server::start(&options);
    let run = server.client.trigger("speaks", None).await;
    assert_eq!(server.client.wait("speaks", &run).await["state"], "failed");
    let task = async |id: &str| server.client.task("speaks", &run, id).await;
    assert_eq!(task("by_tls").await["state"], "success", "{}", task("by_tls").await);
    for id in ["inside", "decimal", "no_name"] {
        let seen = task(id).await;
        assert_eq!(seen["state"], "failed", "{seen}");
        let reason = seen["reason"].as_str().unwrap();
        assert!(reason.starts_with("WRK0302") && reason.contains("NET0001"), "{reason}");
    }
    until("the messages of the task and of the run", async || by_tls.bodies().len() >= 2).await;
    let texts: Vec<Value> = by_tls.bodies().iter().map(|body| body["text"].clone()).collect();
    assert_eq!(texts[0], "hello", "{texts:?}");
    assert_eq!(by_tls.bodies()[1]["state"], "failed");
    until("the refusal of the server's own message", async || server.said().contains("NET0001")).await;
    assert_eq!(inside.count(), 0, "something got inside");

    // Without the authority nobody is trusted.
    drop(server);
    let mut options = Options::new(&dags, &folder.path().join("distrustful"));
    options.env.insert("TIDEMILL_OUTBOUND_ALLOW".to_owned(), "localhost".to_owned());
    let server = Server::start(&options);
    let run = server.client.trigger("speaks", None).await;
    server.client.wait("speaks", &run).await;
    let seen = server.client.task("speaks", &run, "by_tls").await;
    let reason = seen["reason"].as_str().unwrap();
    assert!(reason.contains("NET0003"), "{reason}");
    assert_eq!(by_tls.bodies().len(), 2, "a receiver that is not trusted got a message");
    println!(
        "{{\"messages_by_tls\":2,\"refused_in_tasks\":3,\"refused_in_messages\":1,\"reached_inside\":0,\"without_authority\":0}}"
    );
}

#[test]
fn a_wrong_entry_of_the_list_is_told_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = Options::new(folder.path(), &folder.path().join("data"));
    options.env.insert("TIDEMILL_OUTBOUND_ALLOW".to_owned(), "10.0.0.0/8,http://x".to_owned());
    let Err(error) = Server::try_start(&options) else { panic!("it started") };
    assert!(error.contains("CFG0005") && error.contains("http://x"), "{error}");
}
