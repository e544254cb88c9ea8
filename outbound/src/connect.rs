//! From a URL to a connection: resolve once, judge, connect to what was judged, TLS.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{InvalidDnsNameError, ServerName},
    },
};
use url::{Host, Url};

use crate::{
    Allow,
    call::shown,
    error::{CallError, chain},
};

/// A connection, with TLS or without.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Connects to the host of a URL, at an address that may be called.
pub(crate) async fn connect(url: &Url, allow: &Allow) -> Result<Box<dyn Stream>, CallError> {
    let unreachable =
        |error: &dyn std::error::Error| CallError::Unreachable { url: shown(url), why: chain(error) };
    let (host, port) = place(url)?;
    let addresses = resolve(&host, port).await.map_err(|error| unreachable(&error))?;
    let good = allow.judge(&host.to_string(), &addresses)?;
    let stream = first(&good, port).await.map_err(|error| unreachable(&error))?;
    // Requests are small and wait for their answer.
    let _ = stream.set_nodelay(true);
    if url.scheme() != "https" {
        return Ok(Box::new(stream));
    }
    let name = server_name(&host).map_err(|error| unreachable(&error))?;
    let config = tls().map_err(|why| CallError::Unreachable { url: shown(url), why })?;
    let stream =
        TlsConnector::from(config).connect(name, stream).await.map_err(|error| unreachable(&error))?;
    Ok(Box::new(stream))
}

/// Returns host and port of a URL that can be called.
pub(crate) fn place(url: &Url) -> Result<(Host<String>, u16), CallError> {
    let wrong = |why: &str| CallError::Address { url: shown(url), why: why.to_owned() };
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("it begins neither with http:// nor with https://"));
    }
    match (url.host(), url.port_or_known_default()) {
        (Some(host), Some(port)) => Ok((host.to_owned(), port)),
        _ => Err(wrong("it names no host")),
    }
}

async fn resolve(host: &Host<String>, port: u16) -> io::Result<Vec<IpAddr>> {
    match host {
        Host::Ipv4(address) => Ok(vec![(*address).into()]),
        Host::Ipv6(address) => Ok(vec![(*address).into()]),
        Host::Domain(name) => {
            let mut found: Vec<IpAddr> =
                lookup_host((name.as_str(), port)).await?.map(|at| at.ip()).collect();
            found.dedup();
            match found.is_empty() {
                true => Err(io::Error::new(io::ErrorKind::NotFound, "its name has no address")),
                false => Ok(found),
            }
        }
    }
}

/// Connects to the first of the addresses that answers.
async fn first(addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
    for address in addresses {
        match TcpStream::connect(SocketAddr::new(*address, port)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn server_name(host: &Host<String>) -> Result<ServerName<'static>, InvalidDnsNameError> {
    match host {
        Host::Ipv4(address) => Ok(ServerName::IpAddress(IpAddr::from(*address).into())),
        Host::Ipv6(address) => Ok(ServerName::IpAddress(IpAddr::from(*address).into())),
        Host::Domain(name) => ServerName::try_from(name.trim_end_matches('.').to_owned()),
    }
}

/// Returns how TLS is spoken: with the certificates that the system trusts, read once.
fn tls() -> Result<Arc<ClientConfig>, String> {
    static CONFIG: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    CONFIG.get_or_init(make_tls).clone()
}

fn make_tls() -> Result<Arc<ClientConfig>, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(": {}", chain(error))).unwrap_or_default();
        return Err(format!(
            "the system has no certificates to trust; install them, or name a file in SSL_CERT_FILE{why}"
        ));
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| chain(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
