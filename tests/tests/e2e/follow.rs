//! Following a log over the event stream, as a browser does: every piece must begin where the one before ended, and
//! a stream that breaks off goes on with `Last-Event-ID`.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;

use super::server::{PATIENCE, Server};

/// Where the server is. Whoever kills it writes the place of the next one here.
#[derive(Clone)]
pub(crate) struct Place(Arc<Mutex<(String, String)>>);

impl Place {
    pub(crate) fn of(server: &Server) -> Self {
        Self(Arc::new(Mutex::new((server.url.clone(), server.client.token.clone()))))
    }

    pub(crate) fn moved(&self, server: &Server) {
        *self.0.lock().unwrap() = (server.url.clone(), server.client.token.clone());
    }

    fn get(&self) -> (String, String) {
        self.0.lock().unwrap().clone()
    }
}

/// What arrived.
pub(crate) struct Followed {
    pub(crate) bytes: Vec<u8>,
    /// How many streams it took.
    pub(crate) streams: u32,
}

/// Follows the log of a try to its end. The client itself hangs up after `cut_after` bytes of each stream.
pub(crate) async fn follow(place: Place, of_try: String, cut_after: usize) -> Followed {
    let http = reqwest::Client::new();
    let mut followed = Followed { bytes: Vec::new(), streams: 0 };
    let mut progress = Instant::now();
    loop {
        let (url, token) = place.get();
        let mut request = http.get(format!("{url}/api/v1{of_try}/log/events")).bearer_auth(token);
        if !followed.bytes.is_empty() {
            request = request.header("last-event-id", followed.bytes.len());
        }
        // A server that is down, or does not know the try yet, is asked again.
        if let Ok(reply) = request.send().await
            && reply.status().is_success()
        {
            followed.streams += 1;
            let before = followed.bytes.len();
            if read(reply, &mut followed.bytes, cut_after).await {
                return followed;
            }
            if followed.bytes.len() > before {
                progress = Instant::now();
            }
        }
        assert!(progress.elapsed() < PATIENCE, "the stream of {of_try} gives nothing more");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Reads one stream; true: the try has ended.
async fn read(mut reply: reqwest::Response, bytes: &mut Vec<u8>, cut_after: usize) -> bool {
    let begin = bytes.len();
    let mut text = Vec::new();
    while let Ok(Some(chunk)) = reply.chunk().await {
        text.extend_from_slice(&chunk);
        while let Some(at) = text.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = text.drain(..at + 2).collect();
            let event = String::from_utf8(event).unwrap();
            let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            match field("event:") {
                Some("bytes") => {
                    let data: Value = serde_json::from_str(field("data:").unwrap()).unwrap();
                    assert_eq!(data["offset"], bytes.len(), "a gap or a repetition");
                    bytes.extend(BASE64_STANDARD.decode(data["bytes"].as_str().unwrap()).unwrap());
                    assert_eq!(field("id:"), Some(bytes.len().to_string().as_str()));
                }
                Some("end") => {
                    let data: Value = serde_json::from_str(field("data:").unwrap()).unwrap();
                    assert_eq!(data["size_bytes"], bytes.len());
                    return true;
                }
                _ => {}
            }
        }
        if bytes.len() - begin >= cut_after {
            return false;
        }
    }
    false
}
