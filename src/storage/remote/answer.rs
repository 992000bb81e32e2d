//! Whether what came is an answer of such a store: looked at before anything is read from it.
//!
//! A network that wants a login first, a proxy, or another server at this address answers 200 and sends a page. To OpenDAL that is a listing
//! without objects: its readers take whatever fields they find. An empty listing of a mirror that was full is a rollback, with the advice to
//! accept it. So what is asked for as a listing has to be one: of this kind, whole, and with names that lie in this mirror's place. (OpenDAL cuts
//! the place off each name by its length, which panics on a shorter one.)
//!
//! | what was asked for | what may come |
//! |---|---|
//! | a listing of S3 or Azure | XML whose root is that listing's, up to its end; each name begins with the mirror's path |
//! | `PROPFIND` of WebDAV | a `multistatus`, up to its end; each path of a listing is the mirror's or lies beneath it |
//! | a listing of GCS, B2 or Google Drive | JSON with that listing's fields; names as above |
//! | an object, its bytes or its length | anything but a web page |
//!
//! What is not foreseen here and makes OpenDAL panic is a failure of that request: [`caught`].

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Uri};
use opendal::raw::percent_decode_path;
use quick_xml::Reader;
use quick_xml::de;
use quick_xml::events::Event;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::unfinished::prefix_of;
use crate::base::escape::escape;
use crate::base::guard::guarded;
use std::collections::BTreeMap;

/// Characters of what a store said that are shown, at most.
const SHOWN_MAX: usize = 80;
/// Bytes of an answer in which the name of a page is looked for.
const LOOKED_AT: usize = 4 << 10;
/// Codes of S3 by which it says, also with the status 200, that it may answer later.
const PASSING: [&str; 4] = ["InternalError", "ServiceUnavailable", "SlowDown", "RequestTimeout"];

/// Why what came is no answer. An [`opendal::Error`] has it as its source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    /// Something else than such a store is there, or stands before it.
    #[error("what answered is no {expected}: it sent {came}")]
    Other {
        /// What was asked for.
        expected: &'static str,
        /// What came, escaped.
        came: String,
    },
    /// The answer broke off.
    #[error("the {expected} breaks off in its middle")]
    Cut {
        /// What was asked for.
        expected: &'static str,
    },
    /// A store that says something else than it was asked for.
    #[error("the {expected} has a name that does not lie in this mirror's place: \"{name}\"")]
    Elsewhere {
        /// What was asked for.
        expected: &'static str,
        /// The name, escaped.
        name: String,
    },
    /// It says by a status of success that it failed.
    #[error("the {expected} is an error: {words}")]
    Failed {
        /// What was asked for.
        expected: &'static str,
        /// The code and what is said about it, escaped.
        words: String,
        /// It may pass.
        passes: bool,
    },
    /// OpenDAL failed on it.
    #[error("the answer could not be read ({0})")]
    Unreadable(String),
}

impl Unfit {
    /// The error by which a request ends.
    pub fn into_error(self) -> opendal::Error {
        let passes = matches!(self, Self::Cut { .. } | Self::Failed { passes: true, .. });
        opendal::Error::new(opendal::ErrorKind::Unexpected, self.to_string()).with_temporary(passes).set_source(self)
    }
}

/// Runs `attempt`; a panic in it is its failure.
pub(super) async fn caught<T>(attempt: impl Future<Output = opendal::Result<T>>) -> opendal::Result<T> {
    let mut attempt = pin!(attempt);
    poll_fn(|context| {
        let polled = guarded(|| attempt.as_mut().poll(context));
        polled.unwrap_or_else(|why| Poll::Ready(Err(Unfit::Unreadable(shown(&why)).into_error())))
    })
    .await
}

/// A store's words for a message: escaped, and not all of them.
pub(super) fn shown(text: &str) -> String {
    shown_to(text, SHOWN_MAX)
}

/// The same, so many characters at most.
pub(super) fn shown_to(text: &str, most: usize) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let short: String = text.chars().take(most).collect();
    let rest = if short.len() < text.len() { "..." } else { "" };
    format!("{}{rest}", escape(short.as_bytes()))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    S3,
    Azure,
    Google,
    B2,
    Drive,
    Dav,
}

/// What the answers of one mirror look like.
#[derive(Debug, Clone)]
pub(super) struct Answers {
    form: Form,
    /// Bucket of S3.
    bucket: String,
    /// The mirror's path as it stands before each name in a listing.
    prefix: String,
    /// What stands before that in the paths of WebDAV, as the server writes it.
    server_path: String,
}

impl Answers {
    /// Those of a service with these settings. None where it is not reached by HTTP.
    pub fn of(scheme: &str, settings: &BTreeMap<String, String>) -> Option<Self> {
        let form = match scheme {
            "s3" => Form::S3,
            "azblob" => Form::Azure,
            "gcs" => Form::Google,
            "b2" => Form::B2,
            "gdrive" => Form::Drive,
            "webdav" => Form::Dav,
            _ => return None,
        };
        let endpoint = settings.get("endpoint").and_then(|endpoint| endpoint.parse::<Uri>().ok());
        Some(Self {
            form,
            bucket: settings.get("bucket").cloned().unwrap_or_default(),
            prefix: prefix_of(settings.get("root")),
            server_path: endpoint.map(|uri| uri.path().trim_end_matches('/').to_owned()).unwrap_or_default(),
        })
    }

    /// What a listing of it is called.
    const fn listing(&self) -> &'static str {
        match self.form {
            Form::S3 => "S3 listing",
            Form::Azure => "Azure listing",
            Form::Google => "Google listing",
            Form::B2 => "B2 listing",
            Form::Drive => "Google Drive listing",
            Form::Dav => "WebDAV answer",
        }
    }

    /// What its objects are called.
    const fn object(&self) -> &'static str {
        match self.form {
            Form::S3 => "S3 object",
            Form::Azure => "Azure object",
            Form::Google => "Google object",
            Form::B2 => "B2 object",
            Form::Drive => "Google Drive object",
            Form::Dav => "WebDAV object",
        }
    }

    /// True when this request asks for names. `lists`: it is made for a listing.
    pub fn is_listing(&self, method: &Method, uri: &Uri, lists: bool) -> bool {
        let path = uri.path();
        let query: Vec<&str> =
            uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split('=').next()).collect();
        let has = |key: &str| query.contains(&key);
        match self.form {
            Form::Dav => method.as_str() == "PROPFIND",
            _ if *method != Method::GET && *method != Method::POST => false,
            // Without the newer form, and in the bucket's root, the question has no words at all.
            Form::S3 => {
                let is_bucket = path == "/" || path.trim_end_matches('/').rsplit('/').next() == Some(&self.bucket);
                let is_asked = ["list-type", "prefix", "delimiter", "marker"].iter().any(|key| has(key));
                !has("uploads") && (is_asked || (lists && is_bucket && uri.query().is_none()))
            }
            Form::Azure => {
                has("comp") && has("restype") && uri.query().is_some_and(|query| query.contains("comp=list"))
            }
            Form::Google => path.ends_with("/o") && (has("prefix") || lists),
            Form::B2 => path.ends_with("/b2_list_file_names"),
            Form::Drive => path == "/drive/v3/files" && *method == Method::GET,
        }
    }

    /// True when a page that comes for this request is no object. Servers of WebDAV and some of the others describe what they did by a page.
    pub fn is_object(&self, method: &Method) -> bool {
        *method == Method::GET || (*method == Method::HEAD && self.form != Form::Dav)
    }

    /// Looks at a whole answer to what [`Answers::is_listing`] found to be a question for names.
    ///
    /// # Errors
    /// Why it is none.
    pub fn check_listing(&self, body: &[u8], lists: bool) -> Result<(), Unfit> {
        let expected = self.listing();
        match self.form {
            Form::S3 => self.check_xml(body, &["ListBucketResult"], |text| {
                let page: S3Page = de::from_str(text).ok()?;
                let names = page.contents.into_iter().map(|found| found.key);
                Some(names.chain(page.common_prefixes.into_iter().map(|found| found.prefix)).collect())
            }),
            Form::Azure => self.check_xml(body, &["EnumerationResults"], |text| {
                let page: AzurePage = de::from_str(text).ok()?;
                let names = page.blobs.blob.into_iter().chain(page.blobs.blob_prefix);
                Some(names.map(|found| found.name).collect())
            }),
            Form::Dav => self.check_xml(body, &["multistatus"], |text| {
                let page: DavPage = de::from_str(text).ok()?;
                // A question about one place may be about what lies above the mirror.
                Some(page.response.into_iter().filter(|_| lists).map(DavResponse::path).collect())
            }),
            Form::Google | Form::B2 | Form::Drive => {
                let other = || Unfit::Other { expected, came: describe(None, body) };
                let page: Value = serde_json::from_slice(body).map_err(|error| match error.is_eof() {
                    true if !body.is_empty() => Unfit::Cut { expected },
                    _ => other(),
                })?;
                self.json_names(&page).ok_or_else(other)?.iter().try_for_each(|name| self.check_name(name))
            }
        }
    }

    /// The names in a page of JSON; none when it is no such page.
    fn json_names(&self, page: &Value) -> Option<Vec<String>> {
        let name = |found: &Value, key: &str| Some(found.get(key)?.as_str()?.to_owned());
        let all = |list: &str, key: &str| page.get(list)?.as_array()?.iter().map(|found| name(found, key)).collect();
        match self.form {
            Form::B2 => all("files", "fileName"),
            // Its names have no path; that is looked up by OpenDAL.
            Form::Drive => page.get("files")?.as_array().map(|_| Vec::new()),
            _ => {
                let is_page = page.get("kind").and_then(Value::as_str) == Some("storage#objects");
                let none = || is_page.then(Vec::new);
                let prefixes = page.get("prefixes").and_then(Value::as_array).into_iter().flatten();
                let mut names: Vec<String> = match page.get("items") {
                    Some(_) => all("items", "name")?,
                    None => none()?,
                };
                names.extend(prefixes.filter_map(|prefix| prefix.as_str().map(str::to_owned)));
                Some(names)
            }
        }
    }

    fn check_xml(
        &self,
        body: &[u8],
        roots: &[&str],
        names: impl FnOnce(&str) -> Option<Vec<String>>,
    ) -> Result<(), Unfit> {
        let expected = self.listing();
        let other = || Unfit::Other { expected, came: describe(None, body) };
        let text = std::str::from_utf8(body).map_err(|_| other())?;
        match root_of(text) {
            Some((root, is_whole)) if roots.contains(&root.as_str()) => {
                if !is_whole {
                    return Err(Unfit::Cut { expected });
                }
            }
            Some((root, _)) if root == "Error" => {
                let error: S3Words = de::from_str(text).unwrap_or_default();
                let passes = PASSING.contains(&error.code.as_str());
                let words = shown(&format!("{} {}", error.code, error.message));
                return Err(Unfit::Failed { expected, words, passes });
            }
            _ => return Err(other()),
        }
        // OpenDAL would fail on it as well.
        names(text).ok_or_else(other)?.iter().try_for_each(|name| self.check_name(name))
    }

    fn check_name(&self, name: &str) -> Result<(), Unfit> {
        let is_here = match self.form {
            Form::Dav => {
                let root = format!("/{}", self.prefix);
                let path = name.strip_prefix(&self.server_path).unwrap_or(name);
                percent_decode_path(path).starts_with(&root)
            }
            _ => name.starts_with(&self.prefix),
        };
        let elsewhere = || Unfit::Elsewhere { expected: self.listing(), name: shown(name) };
        if is_here { Ok(()) } else { Err(elsewhere()) }
    }

    /// Looks at the beginning of what came for an object.
    ///
    /// # Errors
    /// When it is a page. Nothing that is stored begins as one.
    pub fn check_object(&self, headers: &HeaderMap, beginning: &[u8]) -> Result<(), Unfit> {
        if is_page(headers) && is_markup(beginning) {
            return Err(Unfit::Other { expected: self.object(), came: describe(Some(headers), beginning) });
        }
        Ok(())
    }

    /// Looks at an answer without a body to a question about an object.
    ///
    /// # Errors
    /// When a page would come.
    pub fn check_head(&self, headers: &HeaderMap) -> Result<(), Unfit> {
        if is_page(headers) {
            return Err(Unfit::Other { expected: self.object(), came: "a web page".to_owned() });
        }
        Ok(())
    }

    /// That no server of this kind is there, although it says that there is nothing.
    pub fn no_server(&self) -> Unfit {
        Unfit::Other { expected: self.listing(), came: "a web page, and knows nothing of WebDAV".to_owned() }
    }
}

/// True when it says of itself that it is a web page.
pub(super) fn is_page(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(|kind| kind.as_bytes().to_ascii_lowercase()).unwrap_or_default();
    kind.starts_with(b"text/html") || kind.starts_with(b"application/xhtml")
}

/// True when it begins as markup does.
pub(super) fn is_markup(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    bytes.trim_ascii_start().starts_with(b"<")
}

/// What came, in a few words.
pub(super) fn describe(headers: Option<&HeaderMap>, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body.get(..LOOKED_AT).unwrap_or(body));
    let text = text.trim_start_matches('\u{feff}').trim();
    let lower = text.to_ascii_lowercase();
    let is_html = lower.starts_with("<!doctype html") || lower.starts_with("<html") || headers.is_some_and(is_page);
    if text.is_empty() {
        return "nothing".to_owned();
    }
    if is_html {
        let from = lower.find("<title").and_then(|at| lower[at..].find('>').map(|end| at + end + 1));
        let title = from.and_then(|from| Some(text.get(from..from + lower.get(from..)?.find('<')?)?.trim()));
        return match title.filter(|title| !title.is_empty()) {
            Some(title) => format!("a web page (\"{}\")", shown(title)),
            None => "a web page".to_owned(),
        };
    }
    match root_of(text) {
        Some((root, _)) => format!("XML of another kind (<{}>)", shown(&root)),
        None if text.starts_with(['{', '[']) => "JSON of another kind".to_owned(),
        None => format!("\"{}\"", shown(text)),
    }
}

/// The name of the root of a document, without its namespace, and whether it has its end. None when it is no XML from its beginning.
fn root_of(text: &str) -> Option<(String, bool)> {
    let mut reader = Reader::from_str(text);
    let (mut root, mut depth) = (None, 0_u64);
    loop {
        match reader.read_event() {
            Ok(Event::Start(start)) => {
                root.get_or_insert_with(|| start.local_name().as_ref().to_owned());
                depth += 1;
            }
            Ok(Event::Empty(start)) if root.is_none() => {
                return Some((start.local_name().as_ref().to_owned(), true));
            }
            Ok(Event::End(_)) => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return root.map(|root| (root, true));
                }
            }
            Ok(Event::Text(text)) if root.is_none() && !text.as_ref().trim().is_empty() => return None,
            Ok(Event::Eof) | Err(_) => return root.map(|root| (root, false)),
            Ok(_) => {}
        }
    }
}

/// What a store says when it fails.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct S3Words {
    pub code: String,
    pub message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct S3Page {
    contents: Vec<S3Object>,
    common_prefixes: Vec<S3Prefix>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct S3Object {
    key: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct S3Prefix {
    prefix: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AzurePage {
    blobs: AzureBlobs,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct AzureBlobs {
    blob: Vec<AzureBlob>,
    blob_prefix: Vec<AzureBlob>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AzureBlob {
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DavPage {
    response: Vec<DavResponse>,
}

#[derive(Debug, Deserialize)]
struct DavResponse {
    href: String,
    #[serde(default)]
    propstat: Vec<DavPropstat>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DavPropstat {
    prop: DavProp,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DavProp {
    resourcetype: DavType,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DavType {
    collection: Option<IgnoredAny>,
}

impl DavResponse {
    /// Its path; that of a directory ends with a slash, as OpenDAL has it.
    fn path(self) -> String {
        let is_directory = self.propstat.iter().any(|found| found.prop.resourcetype.collection.is_some());
        if is_directory && !self.href.ends_with('/') { self.href + "/" } else { self.href }
    }
}
