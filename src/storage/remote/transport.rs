//! HTTP as a mirror needs it: bytes are counted when they leave, at the rate that is allowed; answers are no longer than what was asked for; and
//! nothing goes to another host than the one that was named.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::{StreamExt, TryStreamExt};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, LOCATION, PROXY_AUTHORIZATION, RANGE};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use opendal::raw::parse_content_length;
use opendal::{Buffer, Error, ErrorKind, HttpBody, HttpTransport, Result};
use rustls::pki_types::CertificateDer;
use tokio::sync::mpsc::Receiver;
use tokio::time::Sleep;

use super::PAGE_BYTES_MAX;
use super::answer::{Answers, Unfit, is_page};
use super::connector::Connector;
use super::flow::Flow;
use super::said::Said;
use crate::base::escape::escape;
use crate::storage::patience::Patience;

/// Bytes of an answer that says why something failed, at most.
const REASON_BYTES_MAX: u64 = 64 << 10;
/// Bytes of an answer that may always come.
const ANSWER_BYTES_MIN: u64 = 1 << 20;
/// Redirects that are followed for one request, on the same host.
const REDIRECTS_MAX: usize = 5;
/// How long a connection is waited for.
const CONNECT: Duration = Duration::from_secs(30);
/// How long a connection is kept that nobody uses: less than servers do.
const IDLE: Duration = Duration::from_secs(30);
/// Bytes of a connection that wait in this program, at most: on their way out, or on their way in.
const WAITING_BYTES: usize = 64 << 10;

/// See the module.
pub(super) struct Transport {
    client: Client<Connector, Leaving>,
    connector: Connector,
    /// What answers are to look like; none where that is not known.
    answers: Option<Answers>,
}

impl Transport {
    /// One with this patience, for a mirror with such answers, whose servers these certificates are to be of, where there are some.
    pub fn new(patience: &Patience, answers: Option<Answers>, given: Option<Vec<CertificateDer<'static>>>) -> Self {
        let connector = Connector::new(CONNECT.min(patience.answer), patience.answer, given);
        let mut builder = Client::builder(TokioExecutor::new());
        builder.timer(TokioTimer::new()).pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE);
        builder.http1_max_buf_size(WAITING_BYTES);
        Self { client: builder.build(connector.clone()), connector, answers }
    }

    /// Sends a request, and again where a redirect on the same host points. A body that comes piece by piece is sent once.
    async fn send(&self, request: Outgoing, mut body: Leaving) -> Result<Response<Incoming>> {
        let Outgoing { method, mut uri, headers } = request;
        let again = body.more.is_none().then(|| body.rest.clone());
        let flow = body.flow.clone();
        for _ in 0..=REDIRECTS_MAX {
            let mut request = Request::builder()
                .method(method.clone())
                .uri(uri.clone())
                .body(body)
                .map_err(|error| Error::new(ErrorKind::Unexpected, "the address of a request").set_source(error))?;
            request.headers_mut().clone_from(&headers);
            if let Some(authorization) = self.connector.proxy_authorization(&uri) {
                request.headers_mut().insert(PROXY_AUTHORIZATION, authorization);
            }
            let response =
                self.client.request(request).await.map_err(|error| failed("send http request", &uri, error))?;
            let (Some(to), Some(rest)) = (redirect(&uri, &method, &response), &again) else { return Ok(response) };
            uri = to;
            body = Leaving { left: rest.len() as u64, rest: rest.clone(), more: None, flow: flow.clone(), turn: None };
        }
        Err(Error::new(ErrorKind::Unexpected, "the store redirects without end").with_context("url", uri.to_string()))
    }
}

impl Transport {
    /// Asks whether WebDAV is spoken at an address: RFC 4918, section 10.1. Its servers say so also where there is nothing.
    async fn is_dav(&self, uri: &Uri, headers: HeaderMap) -> Result<bool> {
        let nothing = Leaving { rest: Buffer::new(), more: None, left: 0, flow: None, turn: None };
        let mut headers = headers;
        headers.remove(CONTENT_LENGTH);
        let outgoing = Outgoing { method: Method::OPTIONS, uri: uri.clone(), headers };
        let answer = self.send(outgoing, nothing).await?;
        Ok(answer.headers().contains_key("dav"))
    }
}

/// What a request says, its body apart.
struct Outgoing {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

/// Scheme, host and port.
fn origin(uri: &Uri) -> Option<(String, String, u16)> {
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    Some((scheme, uri.host()?.to_ascii_lowercase(), port))
}

/// Where the same request is to go, when that is at the same host: credentials are for the host that was named. The answers that ask for
/// another method (303, and 301 and 302 to a POST) are not followed: RFC 9110, section 15.4.
fn redirect(from: &Uri, method: &Method, response: &Response<Incoming>) -> Option<Uri> {
    let is_same_request = match response.status() {
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => true,
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => *method != Method::POST,
        _ => false,
    };
    let location = response.headers().get(LOCATION).filter(|_| is_same_request)?.to_str().ok()?;
    let to = match location.strip_prefix('/') {
        Some(rest) if !rest.starts_with('/') => {
            let mut parts = from.clone().into_parts();
            parts.path_and_query = Some(location.parse().ok()?);
            Uri::from_parts(parts).ok()?
        }
        _ => location.parse().ok()?,
    };
    (origin(&to).is_some() && origin(&to) == origin(from)).then_some(to)
}

/// Where a store that does not want a request says that it should go.
fn pointed_elsewhere(response: &Response<Incoming>) -> Option<String> {
    let header = |name: &str| Some(escape(response.headers().get(name)?.as_bytes()));
    let is_elsewhere = response.status().is_redirection() && response.status() != StatusCode::NOT_MODIFIED;
    let region = header("x-amz-bucket-region").map(|region| format!("region {region}"));
    let place = header(LOCATION.as_str());
    is_elsewhere.then(|| region.or(place).unwrap_or_else(|| "another place".to_owned()))
}

/// Where a range begins, in the words of a header.
fn range_start(header: Option<&http::HeaderValue>, unit: &str) -> Option<u64> {
    header?.to_str().ok()?.strip_prefix(unit)?.split('-').next()?.trim().parse().ok()
}

/// Whether what was answered begins where it was asked to: all of an object is no part of it.
fn is_range_right(asked: Option<u64>, response: &Response<Incoming>) -> bool {
    let came = range_start(response.headers().get(CONTENT_RANGE), "bytes ");
    match (asked, came) {
        // Whatever the status: rclone's server says 200 to a part.
        (Some(asked), Some(came)) => asked == came,
        (Some(asked), None) if response.status() == StatusCode::OK => asked == 0,
        _ => true,
    }
}

/// As what may pass counts what broke off; what was refused does not.
fn failed(message: &'static str, uri: &Uri, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Unexpected, message)
        .with_context("url", uri.to_string())
        .with_temporary(true)
        .set_source(error)
}

impl HttpTransport for Transport {
    async fn fetch(&self, request: Request<Buffer>) -> Result<Response<HttpBody>> {
        let flow = Flow::current();
        let (parts, body) = request.into_parts();
        let (uri, is_head) = (parts.uri.clone(), parts.method == Method::HEAD);
        let given = flow.as_ref().filter(|_| parts.method == Method::PUT).and_then(|flow| flow.take_body());
        let mut headers = parts.headers;
        let leaving = match given {
            Some((length, pieces)) => {
                headers.insert(CONTENT_LENGTH, length.into());
                Leaving { rest: Buffer::new(), more: Some(pieces), left: length, flow: flow.clone(), turn: None }
            }
            None => Leaving { left: body.len() as u64, rest: body, more: None, flow: flow.clone(), turn: None },
        };
        let asked = range_start(headers.get(RANGE), "bytes=");
        let lists = flow.as_ref().is_some_and(|flow| flow.lists());
        let answers = self.answers.as_ref();
        let names = answers.filter(|answers| answers.is_listing(&parts.method, &uri, lists));
        let object = answers.filter(|answers| names.is_none() && answers.is_object(&parts.method)).cloned();
        let again = names.map(|_| headers.clone());
        if let Some(flow) = &flow {
            flow.touch();
            flow.say(None);
        }
        let outgoing = Outgoing { method: parts.method, uri: uri.clone(), headers };
        let mut response = self.send(outgoing, leaving).await?;
        if let Some(flow) = &flow {
            flow.touch();
        }
        if !is_range_right(asked, &response) {
            let message = "the store, or a proxy before it, sent another range than the one that was asked for";
            return Err(Error::new(ErrorKind::Unexpected, message).with_context("url", uri.to_string()));
        }
        if let Some(place) = pointed_elsewhere(&response) {
            if let Some(flow) = &flow {
                flow.say(Some(Said::read(response.status(), response.headers(), b"")));
            }
            let message = format!(
                "the store redirects to {place}, which is not followed: name it in the address, or does this machine have to log in to the network first?"
            );
            return Err(Error::new(ErrorKind::Unexpected, message).with_context("url", uri.to_string()));
        }
        let is_right = response.status().is_success();
        if flow.as_ref().is_some_and(|flow| flow.is_fruitless()) {
            return Err(Error::new(ErrorKind::Unexpected, "the listing has no end: answers come, and no names"));
        }
        // A login may come before what was asked for: its answer has nothing to do with that.
        let expected = flow.as_ref().map_or(PAGE_BYTES_MAX, |flow| flow.expected).max(ANSWER_BYTES_MIN);
        let limit = if is_right { expected } else { REASON_BYTES_MAX };
        let length = if is_head || !is_right { None } else { parse_content_length(response.headers())? };
        if length.is_some_and(|length| length > limit) {
            return Err(too_long(limit));
        }
        if let (Some(answers), Some(headers)) = (names, again)
            && lists
            && response.status() == StatusCode::NOT_FOUND
            && is_page(response.headers())
            && !self.is_dav(&uri, headers).await?
        {
            return Err(answers.no_server().into_error());
        }
        // OpenDAL asks for the length of an object before it reads any of it. A page without one is nothing that a store would send.
        if let Some(answers) = object.as_ref().filter(|_| is_right && (is_head || length.is_none())) {
            answers.check_head(response.headers()).map_err(Unfit::into_error)?;
        }
        let mut answer =
            Response::builder().status(response.status()).version(response.version()).extension(uri.clone());
        if let Some(headers) = answer.headers_mut() {
            std::mem::swap(headers, response.headers_mut());
        }
        let (mut came, mut begun) = (0, false);
        let (said_to, status) = (flow.clone(), response.status());
        let headers = answer.headers_ref().cloned().unwrap_or_default();
        let headers_of_answer = headers.clone();
        let object = object.filter(|_| is_right && is_page(&headers));
        let stream = response
            .into_body()
            .into_data_stream()
            .map_err(move |error| failed("read data from http response", &uri, error))
            .map(move |bytes| {
                let bytes = bytes?;
                came += bytes.len() as u64;
                if let Some(flow) = &flow {
                    flow.received(bytes.len() as u64);
                }
                if let Some(object) = object.as_ref().filter(|_| !begun && !bytes.is_empty()) {
                    begun = true;
                    object.check_object(&headers, &bytes).map_err(Unfit::into_error)?;
                }
                if came > limit { Err(too_long(limit)) } else { Ok(Buffer::from(bytes)) }
            })
            // The reason for a failure is cut; what was asked for is whole or refused.
            .take_while(move |bytes| std::future::ready(is_right || bytes.is_ok()))
            .try_filter(|bytes| std::future::ready(!bytes.is_empty()));
        let mut body = HttpBody::new(Box::pin(stream), length);
        if let Some(said_to) = said_to.filter(|_| !is_right) {
            let whole = body.to_buffer().await.unwrap_or_default().to_bytes();
            said_to.say(Some(Said::read(status, &headers_of_answer, &whole)));
            let length = whole.len() as u64;
            body = HttpBody::new(Box::pin(futures_util::stream::iter([Ok(Buffer::from(whole))])), Some(length));
        }
        if let Some(answers) = names.filter(|_| is_right) {
            let whole = body.to_buffer().await?.to_bytes();
            answers.check_listing(&whole, lists).map_err(Unfit::into_error)?;
            let length = whole.len() as u64;
            body = HttpBody::new(Box::pin(futures_util::stream::iter([Ok(Buffer::from(whole))])), Some(length));
        }
        answer.body(body).map_err(|error| Error::new(ErrorKind::Unexpected, "an answer").set_source(error))
    }
}

fn too_long(limit: u64) -> Error {
    Error::new(ErrorKind::RangeNotSatisfied, format!("the answer is longer than the {limit} bytes that were asked for"))
}

/// A body on its way out: a portion at a time, each when it is its turn.
struct Leaving {
    rest: Buffer,
    /// Where more comes from.
    more: Option<Receiver<Bytes>>,
    /// Bytes that have not left yet.
    left: u64,
    flow: Option<Arc<Flow>>,
    turn: Option<Pin<Box<Sleep>>>,
}

impl Body for Leaving {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        if this.left == 0 {
            return Poll::Ready(None);
        }
        while this.rest.is_empty() {
            let more = match &mut this.more {
                Some(pieces) => ready!(pieces.poll_recv(context)),
                None => None,
            };
            let Some(more) = more else { return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))) };
            this.rest = more.into();
        }
        let most = this.flow.as_ref().map_or(usize::MAX, |flow| flow.limit.portion());
        let portion = most.min(this.rest.len()).min(usize::try_from(this.left).unwrap_or(usize::MAX));
        if this.turn.is_none()
            && let Some(at) = this.flow.as_ref().and_then(|flow| flow.limit.reserve(portion))
        {
            this.turn = Some(Box::pin(tokio::time::sleep_until(at.into())));
        }
        if let Some(turn) = &mut this.turn {
            ready!(turn.as_mut().poll(context));
            this.turn = None;
        }
        let bytes = this.rest.slice(..portion).to_bytes();
        this.rest.advance(portion);
        this.left -= portion as u64;
        if let Some(flow) = &this.flow {
            flow.sent(portion as u64, this.left == 0);
        }
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
