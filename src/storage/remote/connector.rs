//! Connections to servers: straight, or through the proxy that the environment names.
//!
//! - `ALL_PROXY`, `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` mean what they mean to curl. A proxy is asked for a tunnel to what speaks TLS, and for
//!   the answer itself otherwise; `socks5://` and `socks5h://` are known too.
//! - What was handed to the system is on the wire, but for [`UNSENT_BYTES`]: what is counted has left, and a line that stands still is noticed.

use std::error::Error;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::net::TcpStream;
use tower_service::Service;

use super::authority;
use crate::base::sys;

/// Bytes that the system takes and has not sent, at most. Four connections at 40 kB/s hold four seconds so.
const UNSENT_BYTES: u32 = 32 << 10;

/// What speaks TLS, or why nothing does. A system without certificates still reaches what needs none.
type Tls = Result<Arc<rustls::ClientConfig>, String>;
type Boxed<T> = Pin<Box<dyn Future<Output = Result<T, Box<dyn Error + Send + Sync>>> + Send>>;

/// A TCP connection, with what is set for it.
#[derive(Clone)]
struct Dialer(HttpConnector);

impl Service<Uri> for Dialer {
    type Response = TokioIo<TcpStream>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Boxed<Self::Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let connecting = self.0.call(to);
        Box::pin(async move {
            let connected = connecting.await?;
            // Where it cannot be set, more is in flight than is known.
            let _ = sys::bound_unsent_bytes(connected.inner().as_fd(), UNSENT_BYTES);
            Ok(connected)
        })
    }
}

trait Io: Read + Write + Connection + Unpin + Send {}

impl<T: Read + Write + Connection + Unpin + Send> Io for T {}

/// A connection to a server, or to a proxy that asks the server.
pub(super) struct Stream {
    io: Box<dyn Io>,
    is_proxied: bool,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        self.io.connected().proxy(self.is_proxied)
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, pieces)
    }
}

/// See the module.
#[derive(Clone)]
pub(super) struct Connector {
    dialer: Dialer,
    tls: Tls,
    proxies: Arc<Matcher>,
    patience: Duration,
}

impl Connector {
    /// One that waits so long for a connection to stand, and as long as `silence` for what was sent to be acknowledged.
    /// These certificates count, where there are some; else those that the system trusts.
    pub fn new(patience: Duration, silence: Duration, given: Option<Vec<CertificateDer<'static>>>) -> Self {
        let mut dialer = HttpConnector::new();
        dialer.enforce_http(false);
        dialer.set_nodelay(true);
        dialer.set_connect_timeout(Some(patience));
        dialer.set_tcp_user_timeout(Some(silence));
        let is_given = given.is_some();
        let tls = tls(given).map(Arc::new).map_err(|error| match is_given {
            true => format!("what is in the file that ca_file names is no certificate: {error}"),
            false => format!(
                "no certificate can be checked on this system ({error}): install the package ca-certificates, or name a file of certificates \
                 in SSL_CERT_FILE"
            ),
        });
        Self { dialer: Dialer(dialer), tls, proxies: Arc::new(Matcher::from_env()), patience }
    }

    /// What a proxy that is asked for the answer itself wants to hear from us.
    pub fn proxy_authorization(&self, to: &Uri) -> Option<HeaderValue> {
        let proxy = self.proxies.intercept(to).filter(|_| to.scheme_str() == Some("http"))?;
        proxy.basic_auth().cloned()
    }
}

/// TLS 1.2 and 1.3, with the certificates that were given, or those that this system trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others).
fn tls(given: Option<Vec<CertificateDer<'static>>>) -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    if let Some(given) = given {
        return authority::config(provider, given);
    }
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_platform_verifier()?.with_no_client_auth())
}

/// Connects to `to` over `through`, with TLS where it speaks it.
fn secure<T>(mut through: T, tls: &Tls, to: Uri, is_proxied: bool) -> Boxed<Stream>
where
    T: Service<Uri> + Send + 'static,
    T::Response: Read + Write + Connection + Unpin + Send + 'static,
    T::Future: Send + 'static,
    T::Error: Into<Box<dyn Error + Send + Sync>>,
{
    if to.scheme_str() != Some("https") {
        let connecting = through.call(to);
        return Box::pin(async move { Ok(Stream { io: Box::new(connecting.await.map_err(Into::into)?), is_proxied }) });
    }
    let connecting = tls.clone().map(|tls| HttpsConnector::from((through, tls)).call(to));
    Box::pin(async move { Ok(Stream { io: Box::new(connecting?.await?), is_proxied }) })
}

/// Connects to `to` through a proxy.
fn through(proxy: &Intercept, dialer: Dialer, tls: &Tls, to: Uri) -> Boxed<Stream> {
    let at = proxy.uri().clone();
    if matches!(at.scheme_str(), Some("socks5" | "socks5h")) {
        let mut socks = SocksV5::new(at.clone(), dialer).local_dns(at.scheme_str() == Some("socks5"));
        if let Some((user, password)) = proxy.raw_auth() {
            socks = socks.with_auth(user.to_owned(), password.to_owned());
        }
        return secure(socks, tls, to, false);
    }
    if to.scheme_str() != Some("https") {
        return secure(dialer, tls, at, true);
    }
    let config = match tls {
        Ok(config) => Arc::clone(config),
        Err(why) => return Box::pin(std::future::ready(Err(why.clone().into()))),
    };
    let mut tunnel = Tunnel::new(at, HttpsConnector::from((dialer, config)));
    if let Some(authorization) = proxy.basic_auth() {
        tunnel = tunnel.with_auth(authorization.clone());
    }
    secure(tunnel, tls, to, false)
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Boxed<Stream>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.dialer.poll_ready(context)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let (dialer, tls) = (self.dialer.clone(), &self.tls);
        let connecting = match self.proxies.intercept(&to) {
            Some(proxy) => through(&proxy, dialer, tls, to),
            None => secure(dialer, tls, to, false),
        };
        let waiting = tokio::time::timeout(self.patience, connecting);
        Box::pin(async move { waiting.await.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into())) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::sync::mpsc::{Receiver, channel};

    /// A server that answers each connection once, and tells what came first.
    fn server(answer: &'static [u8]) -> (u16, Receiver<Vec<u8>>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, came) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, mut bytes) = (stream.unwrap(), [0; 1 << 12]);
                let count = stream.read(&mut bytes).unwrap_or_default();
                let _ = stream.write_all(answer);
                if sender.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        (port, came)
    }

    /// Asks for `uri` through `proxy`; true when an answer came.
    fn ask(uri: &str, proxy: &str, except: &str) -> bool {
        use hyper_util::client::legacy::Client;
        use hyper_util::rt::TokioExecutor;
        let mut connector = Connector::new(Duration::from_secs(5), Duration::from_secs(5), None);
        connector.proxies = Arc::new(Matcher::builder().all(proxy).no(except).build());
        let uri: Uri = uri.parse().unwrap();
        let mut request = http::Request::new(http_body_util::Empty::<bytes::Bytes>::new());
        *request.uri_mut() = uri.clone();
        if let Some(authorization) = connector.proxy_authorization(&uri) {
            request.headers_mut().insert(http::header::PROXY_AUTHORIZATION, authorization);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(Client::builder(TokioExecutor::new()).build(connector).request(request)).is_ok()
    }

    #[test]
    fn without_certificates_what_speaks_no_tls_is_reached() {
        let (port, _came) = server(&[]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut connector = Connector::new(Duration::from_secs(5), Duration::from_secs(5), None);
        connector.tls = Err("no certificate can be checked".to_owned());
        connector.proxies = Arc::new(Matcher::builder().build());
        let mut connect = |scheme: &str| {
            let to: Uri = format!("{scheme}://127.0.0.1:{port}/").parse().unwrap();
            runtime.block_on(async { connector.call(to).await }).err().map(|error| error.to_string())
        };
        assert_eq!(connect("http"), None);
        assert_eq!(connect("https").as_deref(), Some("no certificate can be checked"));
    }

    #[test]
    fn a_proxy_is_asked_where_one_is_named() {
        const NOTHING: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let (port, came) = server(NOTHING);
        let proxy = format!("http://me:secret@127.0.0.1:{port}");
        assert!(ask("http://store.invalid/x?y", &proxy, ""));
        let said = String::from_utf8(came.recv().unwrap()).unwrap();
        assert!(said.starts_with("GET http://store.invalid/x?y HTTP/1.1\r\n"), "{said}");
        assert!(said.contains("proxy-authorization: Basic bWU6c2VjcmV0\r\n"), "{said}");
        // What speaks TLS goes through a tunnel, and the proxy sees its name and nothing else.
        assert!(!ask("https://store.invalid/x?y", &proxy, ""));
        let said = String::from_utf8(came.recv().unwrap()).unwrap();
        assert!(said.starts_with("CONNECT store.invalid:443 HTTP/1.1\r\n") && !said.contains("x?y"), "{said}");
        // No proxy is asked for what is excepted.
        let (straight, direct) = server(NOTHING);
        assert!(ask(&format!("http://127.0.0.1:{straight}/x"), &proxy, "127.0.0.1"));
        assert!(direct.recv().unwrap().starts_with(b"GET /x HTTP/1.1\r\n"));
        // RFC 1928: version 5, one method, none.
        let (socks, came) = server(&[]);
        assert!(!ask("http://store.invalid/x", &format!("socks5h://127.0.0.1:{socks}"), ""));
        assert_eq!(came.recv().unwrap(), [5, 1, 0]);
    }
}
