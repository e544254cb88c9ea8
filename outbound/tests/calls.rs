//! Calls against listeners of the test's own.

use std::time::Duration;

use tidemill_outbound::{Allow, CallError, Method, Outbound, Request, Url, header};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

/// Everything that must not be reached without leave, in the ways in which it can be written.
const FORBIDDEN: &[&str] = &[
    "http://127.0.0.1/",
    "http://127.0.0.1:8080/x",
    "http://127.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.1/",
    "http://0177.0.0.1/",
    "http://017700000001/",
    "http://127.0.0.1./",
    "http://localhost/",
    "http://LOCALHOST/",
    "http://user:pw@127.0.0.1/",
    "http://1.1.1.1@127.0.0.1/",
    "http://127.0.0.1#@1.1.1.1/",
    "http://[::1]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[::]/",
    "http://0/",
    "http://0.0.0.0/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::ffff:10.0.0.1]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::127.0.0.1]/",
    "http://[2002:7f00:1::]/",
    "http://10.0.0.1/",
    "http://10.1/",
    "http://167772161/",
    "http://172.16.0.1/",
    "http://172.31.255.254/",
    "http://192.168.0.1/",
    "http://0xc0a80001/",
    "http://0300.0250.0.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://2852039166/",
    "http://0xa9fea9fe/",
    "http://0251.0376.0251.0376/",
    "http://100.64.0.1/",
    "http://198.18.0.1/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    "http://240.0.0.1/",
    "http://[fd00::1]/",
    "http://[fc00:1::1]/",
    "http://[fe80::1]/",
    "http://[ff02::1]/",
    "https://127.0.0.1/",
    "https://[fd00:ec2::254]/latest/",
    "http://①②⑦.0.0.1/",
    "http://127。0。0。1/",
];

fn url(text: &str) -> Url {
    Url::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn get(text: &str) -> Request {
    Request { timeout: Duration::from_secs(20), ..Request::new(Method::GET, url(text)) }
}

fn open(entries: &[&str]) -> Outbound {
    Outbound::new(Allow::read(entries).unwrap())
}

/// Answers one request and returns its head and body.
async fn answer(listener: TcpListener, answer: String) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).await.unwrap();
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                stream.write_all(answer.as_bytes()).await.unwrap();
                return text;
            }
        }
        assert!(count > 0, "the request ended early: {text}");
    }
}

async fn listen(address: &str) -> (TcpListener, u16) {
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

async fn server(address: &str, text: String) -> (u16, JoinHandle<String>) {
    let (listener, port) = listen(address).await;
    (port, tokio::spawn(answer(listener, text)))
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nx-kind: test\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn redirect(to: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n")
}

#[tokio::test]
async fn what_is_not_public_is_refused_however_it_is_written() {
    for text in FORBIDDEN {
        let error = Outbound::default().call(get(text)).await.unwrap_err();
        assert!(matches!(error, CallError::Refused { .. }), "{text}: {error}");
        assert!(error.to_string().starts_with("NET0001"), "{error}");
    }
    for text in
        ["ftp://1.1.1.1/", "file:///etc/passwd", "gopher://127.0.0.1/", "data:text/plain,x", "unix:/run/x"]
    {
        let error = Outbound::default().call(get(text)).await.unwrap_err();
        assert!(error.to_string().starts_with("NET0002"), "{text}: {error}");
        assert!(error.is_final());
    }
    println!("{{\"forbidden_urls\":{},\"reached\":0,\"foreign_schemes\":5}}", FORBIDDEN.len());
}

#[tokio::test]
async fn what_is_allowed_is_asked_and_its_answer_is_read() {
    let (port, served) = server("127.0.0.1", ok("{\"a\":1}")).await;
    let mut request = get(&format!("http://ann:p%40ss@localhost:{port}/a%20b?x=1&y=%26#part"));
    request.method = Method::POST;
    request.body = b"hello".to_vec();
    request.headers.insert("x-mine", header::HeaderValue::from_static("1"));
    request.headers.insert(header::HOST, header::HeaderValue::from_static("other"));
    request.headers.insert(header::TRANSFER_ENCODING, header::HeaderValue::from_static("chunked"));
    let response = open(&["localhost"]).call(request).await.unwrap();
    assert_eq!((response.status, response.body.as_slice()), (200, b"{\"a\":1}".as_slice()));
    assert_eq!(response.headers["x-kind"], "test");
    let asked = served.await.unwrap();
    assert!(asked.starts_with("POST /a%20b?x=1&y=%26 HTTP/1.1\r\n"), "{asked}");
    let lower = asked.to_lowercase();
    assert!(lower.contains(&format!("\r\nhost: localhost:{port}\r\n")), "{asked}");
    assert!(lower.contains("\r\nx-mine: 1\r\n") && !lower.contains("chunked"), "{asked}");
    // ann:p@ss
    assert!(asked.contains("Basic YW5uOnBAc3M="), "{asked}");
    assert!(asked.ends_with("\r\n\r\nhello"), "{asked}");
}

#[tokio::test]
async fn a_redirect_is_judged_like_any_address_and_gets_no_headers_of_another_host() {
    // To where nothing is allowed.
    let (target, port) = listen("127.0.0.2").await;
    let (from, _served) = server("127.0.0.1", redirect(&format!("http://127.0.0.2:{port}/inside"))).await;
    let follow = |from: u16| Request { redirects: 3, ..get(&format!("http://127.0.0.1:{from}/")) };
    let error = open(&["127.0.0.1"]).call(follow(from)).await.unwrap_err();
    assert!(matches!(&error, CallError::Refused { host, .. } if host == "127.0.0.2"), "{error}");
    let idle = tokio::time::timeout(Duration::from_millis(50), target.accept()).await;
    assert!(idle.is_err(), "the redirect was followed");
    // To where it is.
    let served_there = tokio::spawn(answer(target, ok("there")));
    let (from, _served) = server("127.0.0.1", redirect(&format!("http://127.0.0.2:{port}/inside"))).await;
    let mut request = follow(from);
    for name in ["authorization", "x-api-key", "cookie"] {
        request.headers.insert(name, header::HeaderValue::from_static("hush-hush"));
    }
    request.headers.insert(header::ACCEPT, header::HeaderValue::from_static("text/plain"));
    let response = open(&["127.0.0.0/8"]).call(request).await.unwrap();
    assert_eq!((response.body.as_slice(), response.url.path()), (b"there".as_slice(), "/inside"));
    let asked = served_there.await.unwrap();
    assert!(!asked.contains("hush-hush") && asked.contains("text/plain"), "{asked}");
    // Not followed, it is an answer.
    let (from, _served) = server("127.0.0.1", redirect("/next")).await;
    let response = open(&["127.0.0.1"]).call(get(&format!("http://127.0.0.1:{from}/"))).await.unwrap();
    assert_eq!((response.status, &response.headers[header::LOCATION]), (302, &"/next".parse().unwrap()));
    // In a circle.
    let (listener, port) = listen("127.0.0.1").await;
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(redirect("/again").as_bytes()).await;
        }
    });
    let error = open(&["127.0.0.1"]).call(follow(port)).await.unwrap_err();
    assert!(error.to_string().starts_with("NET0006"), "{error}");
}

#[tokio::test]
async fn an_answer_is_bounded_in_time_and_length() {
    let (port, _served) = server("127.0.0.1", ok(&"x".repeat(2000))).await;
    let request = Request { limit_bytes: 1000, ..get(&format!("http://127.0.0.1:{port}/long?token=hush")) };
    let error = open(&["127.0.0.1"]).call(request).await.unwrap_err().to_string();
    assert!(error.starts_with("NET0005") && error.ends_with("longer than 1000 bytes"), "{error}");
    assert!(!error.contains("hush"), "{error}");
    let (_listener, port) = listen("127.0.0.1").await;
    let request =
        Request { timeout: Duration::from_millis(50), ..get(&format!("http://127.0.0.1:{port}/never")) };
    let error = open(&["127.0.0.1"]).call(request).await.unwrap_err();
    assert!(error.to_string().starts_with("NET0004") && !error.is_final(), "{error}");
    let (listener, port) = listen("127.0.0.1").await;
    drop(listener);
    let error = open(&["127.0.0.1"]).call(get(&format!("http://127.0.0.1:{port}/"))).await.unwrap_err();
    assert!(error.to_string().starts_with("NET0003") && !error.is_final(), "{error}");
    let (port, _served) = server("127.0.0.1", "this is no HTTP\r\n\r\n".to_owned()).await;
    let error = open(&["127.0.0.1"]).call(get(&format!("http://127.0.0.1:{port}/"))).await.unwrap_err();
    assert!(error.to_string().starts_with("NET0003"), "{error}");
    // Without TLS on the other side there is no falling back.
    let (listener, port) = listen("127.0.0.1").await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.write_all(ok("clear").as_bytes()).await;
    });
    let error = open(&["127.0.0.1"]).call(get(&format!("https://127.0.0.1:{port}/"))).await.unwrap_err();
    assert!(error.to_string().starts_with("NET0003"), "{error}");
}
