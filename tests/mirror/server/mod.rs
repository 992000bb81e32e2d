//! An S3 service in this process, on a port of 127.0.0.1, which fails as stores, proxies and lines fail: by script.
//!
//! Signatures and checksums are checked. What is above HTTP is done by `bucket.rs` (crate `s3s`), what is below by `wire.rs`.

mod bucket;
mod fault;
mod wire;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::body::{Body as _, Bytes, Incoming};
use hyper::http::{HeaderValue, Method, header};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use packstone::storage::address::Address;
use packstone::storage::memory::Memory;
use packstone::storage::patience::Patience;
use packstone::storage::remote::Remote;
use packstone::storage::{MirrorStore, ObjectName};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use bucket::{Bucket, Objects};
pub use fault::{FAULTS, Fault, Kind, Script};
use wire::{Answer, Wire};

pub const ACCESS_KEY: &str = "AKTEST";
pub const SECRET_KEY: &str = "SKTEST";
const PREFIX: &str = "backups/mirror/";

/// A request that was made.
#[derive(Debug, Clone)]
pub struct Asked {
    pub kind: Kind,
    /// The object's name, as the mirror calls it; empty for a listing.
    pub name: String,
    /// Bytes of the object that were answered.
    pub bytes: u64,
}

impl Asked {
    pub fn is_pack(&self) -> bool {
        self.name.starts_with("packs/")
    }
}

#[derive(Debug)]
struct Plan {
    script: Script,
    asked: Vec<Asked>,
}

#[derive(Clone)]
struct Shared {
    bucket: Bucket,
    service: S3Service,
    plan: Arc<Mutex<Plan>>,
}

/// See the module.
pub struct Server {
    shared: Shared,
    port: u16,
    runtime: Option<Runtime>,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Server {
    /// A store that answers listings in pages of `page` names.
    pub fn start(page: usize) -> Self {
        let bucket = Bucket::new(page);
        let mut builder = S3ServiceBuilder::new(bucket.clone());
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let plan = Arc::new(Mutex::new(Plan { script: Script::Well, asked: Vec::new() }));
        let shared = Shared { bucket, service: builder.build(), plan };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let all = shared.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(all.clone(), stream));
            }
        });
        Self { shared, port, runtime: Some(runtime) }
    }

    /// Its address, as somebody types it.
    pub fn address(&self) -> String {
        format!(
            "s3://bucket/{}?endpoint=http%3A%2F%2F127.0.0.1%3A{}&region=us-east-1&access_key_id={ACCESS_KEY}\
             &disable_config_load=true&disable_ec2_metadata=true",
            PREFIX.trim_end_matches('/'),
            self.port
        )
    }

    /// The store, as the program reaches it.
    pub fn remote_with(&self, secret: &str, patience: Patience) -> Remote {
        let address = Address::parse(&self.address(), &[]).unwrap();
        let secrets = BTreeMap::from([("secret_access_key".to_owned(), secret.to_owned())]);
        Remote::open_with(&address, &secrets, patience).unwrap()
    }

    pub fn remote(&self, patience: Patience) -> Remote {
        self.remote_with(SECRET_KEY, patience)
    }

    /// From now on this happens; requests are counted from 0 again.
    pub fn script(&self, script: Script) {
        *self.shared.plan.lock().unwrap() = Plan { script, asked: Vec::new() };
    }

    /// What was asked since the last script.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.plan.lock().unwrap().asked.clone()
    }

    /// How many uploads are not put together.
    pub fn uploads(&self) -> usize {
        self.shared.bucket.uploads().len()
    }

    /// Their keys, with the parts that are there.
    pub fn unfinished(&self) -> Vec<(String, usize)> {
        self.shared.bucket.uploads().into_iter().map(|upload| (upload.key, upload.parts.len())).collect()
    }

    /// Another machine begins to send an object of the mirror; this was so long ago.
    pub fn begin_upload(&self, path: &str, ago: Duration) {
        self.shared.bucket.begin_upload(&format!("{PREFIX}{path}"), ago);
    }

    /// The same under a key that is none of the mirror's.
    pub fn begin_foreign_upload(&self, key: &str, ago: Duration) {
        self.shared.bucket.begin_upload(key, ago);
    }

    /// What the mirror holds, by no way that could fail.
    pub fn mirror(&self) -> Memory {
        let mirror = Memory::new();
        for (key, bytes) in self.shared.bucket.objects() {
            let name = ObjectName::parse(key.strip_prefix(PREFIX).unwrap()).unwrap();
            mirror.replace(&name, &bytes).unwrap();
        }
        mirror
    }

    /// The mirror holds this, and requests are answered as they should be.
    pub fn set(&self, mirror: &Memory) {
        let objects: Objects =
            mirror.objects().into_iter().map(|(name, bytes)| (format!("{PREFIX}{name}"), Bytes::from(bytes))).collect();
        self.shared.bucket.set(objects);
        self.script(Script::Well);
    }
}

async fn connection(shared: Shared, stream: TcpStream) {
    let reset = Arc::new(AtomicBool::new(false));
    let io = TokioIo::new(Wire::new(stream, Arc::clone(&reset)));
    let service = service_fn(move |request| {
        let (shared, reset) = (shared.clone(), Arc::clone(&reset));
        async move { answer(&shared, &reset, request).await }
    });
    // It ends with an error when the script says so.
    let _ = http1::Builder::new().serve_connection(io, service).await;
}

fn kind_of<B>(request: &Request<B>) -> (Kind, String) {
    let name = request.uri().path().strip_prefix("/bucket/").unwrap_or_default();
    let name = name.strip_prefix(PREFIX).unwrap_or(name).to_owned();
    let query = request.uri().query().unwrap_or_default();
    let kind = match *request.method() {
        Method::PUT if query.is_empty() || query == "x-id=PutObject" || query.contains("partNumber=") => Kind::Put,
        Method::POST if query.contains("uploads") => Kind::Begin,
        Method::POST if query.contains("uploadId=") => Kind::Complete,
        Method::DELETE if query.contains("uploadId=") => Kind::Abort,
        Method::GET if query.contains("list-type=2") => Kind::List,
        Method::GET if query.split('&').any(|pair| pair == "uploads") => Kind::Uploads,
        Method::GET => Kind::Get,
        Method::HEAD => Kind::Head,
        _ => Kind::Other,
    };
    (kind, name)
}

/// Answers, or breaks the connection.
async fn answer(shared: &Shared, reset: &AtomicBool, request: Request<Incoming>) -> io::Result<Response<Answer>> {
    let (kind, name) = kind_of(&request);
    let part =
        request.uri().query().and_then(|query| query.strip_prefix("partNumber=")?.split('&').next()?.parse().ok());
    let (number, fault) = {
        let mut plan = shared.plan.lock().unwrap();
        let number = plan.asked.len();
        let fault = plan.script.fault(number as u64, kind, &name, part);
        plan.asked.push(Asked { kind, name, bytes: 0 });
        (number, fault)
    };
    let (parts, body) = request.into_parts();
    let length = body.size_hint().exact().unwrap_or_default();
    let wanted = if fault == Some(Fault::Reset) { length / 2 } else { u64::MAX };
    let bytes = read(body, wanted).await?;
    let refuse = |status: u16, code: &str| Ok(refusal(status, code));
    match fault {
        Some(Fault::Error) => return refuse(500, "InternalError"),
        Some(Fault::SlowDown) => return refuse(503, "SlowDown"),
        Some(Fault::Precondition) => return refuse(412, "PreconditionFailed"),
        Some(Fault::Unknown) => return refuse(501, "NotImplemented"),
        Some(Fault::Skew) => return refuse(403, "RequestTimeTooSkewed"),
        Some(Fault::Denied) => return refuse(403, "AccessDenied"),
        Some(Fault::NoBucket) => return refuse(404, "NoSuchBucket"),
        Some(Fault::Portal) => return Ok(login_page()),
        Some(Fault::Silence) => std::future::pending().await,
        Some(Fault::Reset) => reset.store(true, Ordering::SeqCst),
        _ => {}
    }
    let by_script = || io::Error::other("by script");
    if fault == Some(Fault::Reset) && kind == Kind::Put {
        return Err(by_script());
    }
    let mut request = Request::from_parts(parts, s3s::Body::from(bytes));
    if let Some(fault) = fault {
        request.extensions_mut().insert(fault);
    }
    let response = shared.service.call(request).await.map_err(|_| io::Error::other("no answer of the service"))?;
    let (mut parts, body) = response.into_parts();
    let bytes = read(body, u64::MAX).await?;
    if kind == Kind::Get
        && let Some(asked) = shared.plan.lock().unwrap().asked.get_mut(number)
    {
        asked.bytes = bytes.len() as u64;
    }
    if !matches!(fault, Some(Fault::Reset | Fault::Short)) {
        return Ok(Response::from_parts(parts, Answer::whole(bytes)));
    }
    if bytes.is_empty() {
        return Err(by_script());
    }
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    parts.headers.remove(header::TRANSFER_ENCODING);
    Ok(Response::from_parts(parts, Answer::cut(bytes.slice(..bytes.len() / 2))))
}

/// All of a body, or when that is less, what there is when `wanted` bytes have come.
async fn read<B>(mut body: B, wanted: u64) -> io::Result<Bytes>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < wanted
        && let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await
    {
        let frame = frame.map_err(|error| io::Error::other(error.to_string()))?;
        bytes.extend_from_slice(&frame.into_data().unwrap_or_default());
    }
    Ok(bytes.into())
}

/// What a hotel sends to whoever has not paid.
fn login_page() -> Response<Answer> {
    let page = "<!DOCTYPE html><html><head><title>Hotel Wi-Fi</title></head><body><p>Log in</body></html>";
    let mut response = Response::new(Answer::whole(page.into()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

/// A refusal as S3 words it. Its time is an hour ago where it is about the time.
fn refusal(status: u16, code: &str) -> Response<Answer> {
    let text = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>by script</Message></Error>");
    let mut response = Response::new(Answer::whole(text.into()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    if code == "RequestTimeTooSkewed" {
        let then = jiff::Timestamp::now() - Duration::from_secs(3600);
        let then = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&then).unwrap();
        response.headers_mut().insert(header::DATE, HeaderValue::from_str(&then).unwrap());
    }
    response
}
