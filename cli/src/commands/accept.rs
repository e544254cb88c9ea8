//! Accepts connections and answers their requests, within limits that `axum::serve` does not have: a connection that sends
//! no request does not stay, and so many connections that files run out are not accepted.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo, http::Request, response::Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::{Resource, getrlimit};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tower::ServiceExt;

/// The pause after a connection could not be accepted, mostly because files ran out: without it the loop would spin.
const PAUSE: Duration = Duration::from_secs(1);

/// What a listener puts up with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How long the head of a request may take, from the first moment of a connection or the end of the answer before.
    pub(crate) header_timeout: Duration,
    /// How many connections are open at a time; more wait in the kernel.
    pub(crate) connections: usize,
}

impl Limits {
    /// Returns the limits of a server: half of the files that the process may open are for connections. A worker has
    /// three, a browser up to six.
    pub(crate) fn of_process() -> Self {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let connections = usize::try_from(files / 2).unwrap_or(usize::MAX).clamp(64, 8_192);
        Self { header_timeout: Duration::from_secs(30), connections }
    }
}

/// Serves until it is told to stop, then lets the requests end that have begun.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) {
    let permits = Arc::new(Semaphore::new(limits.connections));
    // Dropping it ends every connection, so a server that waits no longer leaves none behind.
    let mut open = JoinSet::new();
    loop {
        let next = async {
            let permit = Arc::clone(&permits).acquire_owned().await.ok()?;
            Some((permit, accept(&listener).await))
        };
        let (permit, (stream, peer)) = tokio::select! {
            Some(next) = next => next,
            _ = stop.wait_for(|is_stopping| *is_stopping) => break,
        };
        while open.try_join_next().is_some() {}
        let connection = connection(stream, peer, router.clone(), limits.header_timeout, stop.clone());
        open.spawn(async move {
            connection.await;
            drop(permit);
        });
    }
    drop(listener);
    while open.join_next().await.is_some() {}
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) => {
            }
            Err(error) => {
                tracing::warn!(%error, "no connection could be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    header_timeout: Duration,
    mut stop: watch::Receiver<bool>,
) {
    // A hand-off is one small message each way: waiting for more bytes would cost 40 ms.
    let _ = stream.set_nodelay(true);
    let was_used = AtomicBool::new(false);
    let service = service_fn(|mut request: Request<Incoming>| {
        was_used.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(ConnectInfo(peer));
        answer(router.clone(), request)
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(header_timeout);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        // The peer is gone or was silent for too long: nothing that concerns anybody else.
        _ = connection.as_mut() => return,
        _ = stop.wait_for(|is_stopping| *is_stopping) => {}
    }
    // Browsers open connections before they need them: those would hold up the stop.
    if was_used.load(Ordering::Relaxed) {
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

async fn answer(router: Router, request: Request<Incoming>) -> Result<Response, Infallible> {
    router.oneshot(request.map(Body::new)).await
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        sync::mpsc,
    };

    use super::*;

    /// Longer than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(60);

    struct Running {
        address: SocketAddr,
        stop: watch::Sender<bool>,
        task: tokio::task::JoinHandle<()>,
        /// Something asked for `/slow`.
        entered: mpsc::Receiver<()>,
    }

    async fn start(limits: Limits) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let peer = |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() };
        let (enter, entered) = mpsc::channel(1);
        let of_slow = stopped.clone();
        let slow = move || async move {
            enter.send(()).await.unwrap();
            let mut stopped = of_slow;
            stopped.wait_for(|is_stopping| *is_stopping).await.unwrap();
            "late"
        };
        let router = Router::new().route("/", get(peer)).route("/slow", get(slow));
        let task = tokio::spawn(serve(listener, router, limits, stopped));
        Running { address, stop, task, entered }
    }

    async fn ask(stream: &mut TcpStream, path: &str) {
        let text = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
    }

    async fn rest(mut stream: TcpStream) -> String {
        let mut text = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut text)).await.unwrap().unwrap();
        text
    }

    #[tokio::test]
    async fn a_connection_that_says_nothing_ends_and_makes_room() {
        let header_timeout = Duration::from_millis(100);
        let server = start(Limits { header_timeout, connections: 1 }).await;
        let silent = TcpStream::connect(server.address).await.unwrap();
        let mut half = TcpStream::connect(server.address).await.unwrap();
        half.write_all(b"GET / HTTP/1.1\r\nHost: lo").await.unwrap();
        let mut whole = TcpStream::connect(server.address).await.unwrap();
        ask(&mut whole, "/").await;
        let own = whole.local_addr().unwrap().to_string();
        let answer = rest(whole).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with(&own), "{answer}");
        assert!(!rest(silent).await.contains("200"));
        assert!(!rest(half).await.contains("200"));
    }

    #[tokio::test]
    async fn a_stop_waits_for_requests_and_not_for_silent_connections() {
        let mut server = start(Limits { header_timeout: PATIENCE * 10, connections: 8 }).await;
        let silent = TcpStream::connect(server.address).await.unwrap();
        let mut slow = TcpStream::connect(server.address).await.unwrap();
        ask(&mut slow, "/slow").await;
        // An answer of the same server shows that the connections before were accepted.
        let mut other = TcpStream::connect(server.address).await.unwrap();
        ask(&mut other, "/").await;
        assert!(rest(other).await.contains("200 OK"));
        server.entered.recv().await.unwrap();
        server.stop.send_replace(true);
        tokio::time::timeout(PATIENCE, server.task).await.unwrap().unwrap();
        assert!(rest(slow).await.ends_with("late"), "a request that has begun is answered");
        assert_eq!(rest(silent).await, "");
        assert!(TcpStream::connect(server.address).await.is_err(), "nothing is accepted any more");
    }
}
