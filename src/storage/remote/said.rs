//! What a store said when it refused a request, whichever way it says such things: XML, JSON, a header, a line of text, a page.

use http::StatusCode;
use http::header::{DATE, HeaderMap};
use jiff::Timestamp;
use quick_xml::de;
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;

use super::answer::{describe, is_markup, is_page, shown, shown_to};
use crate::base::escape::escape;
use crate::storage::cause::Cause;

/// Stores refuse a request whose time differs from theirs by more than this.
const SKEW_MAX: Duration = Duration::from_secs(15 * 60);

/// Characters of what it says about it that are shown, at most.
const MESSAGE_MAX: usize = 300;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub status: u16,
    /// Its own word for what is wrong, escaped; empty where there is none.
    pub code: String,
    /// What it says about it, escaped.
    pub message: String,
    /// A web page came.
    is_page: bool,
    /// The region that it names, escaped.
    pub region: Option<String>,
    /// The store's time.
    date: Option<Timestamp>,
}

/// S3, Azure; sabre/dav has the last two.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct XmlWords {
    #[serde(rename = "Code")]
    code: String,
    #[serde(rename = "Message")]
    text: String,
    #[serde(rename = "Region")]
    region: String,
    #[serde(rename = "AuthenticationErrorDetail")]
    detail: String,
    exception: String,
    message: String,
    /// AWS STS has it one step further in.
    #[serde(rename = "Error")]
    error: Option<Box<XmlWords>>,
}

impl Said {
    /// Reads an answer that is no success.
    pub fn read(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let header = |name: &str| headers.get(name).map(|value| escape(value.as_bytes()));
        let date = headers.get(DATE).and_then(|date| date.to_str().ok());
        let mut said = Self {
            status: status.as_u16(),
            code: header("x-ms-error-code").unwrap_or_default(),
            region: header("x-amz-bucket-region"),
            date: date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()).map(|date| date.timestamp()),
            ..Self::default()
        };
        let text = String::from_utf8_lossy(body);
        let text = text.trim_start_matches('\u{feff}').trim();
        if is_page(headers) && is_markup(body) {
            said.is_page = true;
            said.message = describe(Some(headers), body);
        } else if is_markup(body) {
            said.read_xml(text);
        } else if let Ok(page) = serde_json::from_str::<Value>(text) {
            said.read_json(&page);
        } else {
            said.message = shown_to(text, MESSAGE_MAX);
        }
        said
    }

    fn read_xml(&mut self, text: &str) {
        let mut words: XmlWords = de::from_str(text).unwrap_or_default();
        if let Some(inner) = words.error.take() {
            words = *inner;
        }
        if self.code.is_empty() {
            self.code = shown(if words.code.is_empty() { &words.exception } else { &words.code });
        }
        // Azure adds the number of the request and the time.
        let text = if words.text.is_empty() { &words.message } else { &words.text };
        let text = text.split("RequestId:").next().unwrap_or_default();
        self.message = shown_to(&format!("{text} {}", words.detail), MESSAGE_MAX);
        if !words.region.is_empty() {
            self.region = Some(shown(&words.region));
        }
    }

    fn read_json(&mut self, page: &Value) {
        let error = page.get("error").unwrap_or(page);
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(|text| shown_to(text, MESSAGE_MAX));
        // Google: why, among several; an OAuth server says it in one word.
        let reason = error.get("errors").and_then(|all| all.get(0)).and_then(|first| first.get("reason"));
        let word = text(reason).or_else(|| text(error.get("code"))).or_else(|| text(Some(error)));
        self.code = word.unwrap_or_default();
        let description = text(error.get("message")).or_else(|| text(page.get("error_description")));
        self.message = description.unwrap_or_default();
    }

    /// The same in a few words.
    pub fn words(&self) -> String {
        let status = StatusCode::from_u16(self.status).ok().and_then(|status| status.canonical_reason());
        let status = format!("HTTP {} {}", self.status, status.unwrap_or_default()).trim_end().to_owned();
        match (self.code.is_empty(), self.message.is_empty()) {
            (true, true) => status,
            // Some send the status once more.
            (true, false) if status.ends_with(&self.message) || self.message.starts_with(&status[5..]) => status,
            (true, false) => format!("{status}: {}", self.message),
            (false, true) => self.code.clone(),
            (false, false) => format!("{}: {}", self.code, self.message),
        }
    }

    /// What is behind it, for a service that was asked for this operation.
    pub fn cause(&self, scheme: &str, operation: &str) -> Option<Cause> {
        let says = |word: &str| self.message.contains(word);
        // Those that speak to a wrong port.
        if self.status == 400
            && (says("HTTP request to an HTTPS server") || says("plain HTTP request was sent to HTTPS"))
        {
            return Some(Cause::Tls);
        }
        match self.status {
            // Followed it is never; a network that wants a login sends elsewhere too.
            300..=399 if self.region.is_some() => return Some(Cause::Region),
            300..=399 if scheme != "s3" || self.code.is_empty() => return Some(Cause::NoStore),
            407 => return Some(Cause::Proxy),
            511 => return Some(Cause::NoStore),
            429 | 502..=504 => return Some(Cause::Busy),
            507 => return Some(Cause::Full),
            _ => {}
        }
        // What manages a cloud's store sends no pages; a web server may keep WebDAV.
        if self.is_page && scheme != "webdav" && self.status < 500 {
            return Some(Cause::NoStore);
        }
        match scheme {
            "s3" => self.cause_of_s3(),
            "azblob" => self.cause_of_azure(),
            "gcs" | "gdrive" => self.cause_of_google(),
            "b2" => self.cause_of_b2(),
            "webdav" => self.cause_of_dav(operation),
            _ => None,
        }
    }

    /// The store's time is another one than ours.
    fn is_skewed(&self) -> bool {
        let differs = |theirs: Timestamp| Timestamp::now().duration_since(theirs).unsigned_abs() > SKEW_MAX;
        self.date.is_some_and(differs)
    }

    fn cause_of_s3(&self) -> Option<Cause> {
        let cause = match self.code.as_str() {
            "NoSuchBucket" | "InvalidBucketName" => Cause::NoPlace,
            "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" => {
                Cause::Region
            }
            "InvalidAccessKeyId" | "InvalidClientTokenId" | "UnrecognizedClientException" => Cause::KeyUnknown,
            "SignatureDoesNotMatch" => Cause::SecretWrong,
            "ExpiredToken" | "ExpiredTokenException" | "InvalidToken" | "TokenRefreshRequired" => Cause::Expired,
            "RequestTimeTooSkewed" | "RequestExpired" => Cause::Clock,
            "QuotaExceeded"
            | "QuotaExceededException"
            | "InsufficientStorage"
            | "XMinioStorageFull"
            | "XMinioAdminBucketQuotaExceeded"
            | "ServiceQuotaExceededException" => Cause::Full,
            "SlowDown" | "ServiceUnavailable" | "InternalError" | "RequestTimeout" | "TooManyRequests" => Cause::Busy,
            // To a question about an object no reason is sent; the store's own time tells.
            "" if self.status == 403 && self.is_skewed() => Cause::Clock,
            _ if self.status == 401 => Cause::LoginRefused,
            _ if self.status == 403 => Cause::NoRight,
            _ if matches!(self.status, 301 | 307 | 400) && self.region.is_some() => Cause::Region,
            _ => return None,
        };
        Some(cause)
    }

    fn cause_of_azure(&self) -> Option<Cause> {
        let says = |word: &str| self.message.to_ascii_lowercase().contains(word);
        let cause = match self.code.as_str() {
            "ContainerNotFound" | "ContainerBeingDeleted" | "ContainerDisabled" | "InvalidResourceName" => {
                Cause::NoPlace
            }
            // The emulator's words for an account that it does not have.
            "ResourceNotFound" | "AccountNotFound" | "AccountIsDisabled" => Cause::KeyUnknown,
            "AuthenticationFailed" | "AuthorizationFailure" | "InvalidAuthenticationInfo" => match () {
                () if self.is_skewed() => Cause::Clock,
                () if says("time frame") || says("expired") => Cause::Expired,
                () => Cause::SecretWrong,
            },
            "NoAuthenticationInformation" | "PublicAccessNotPermitted" => Cause::NoCredentials,
            "ServerBusy" | "OperationTimedOut" | "InternalError" => Cause::Busy,
            _ if self.status == 401 => Cause::LoginRefused,
            "" if self.status == 403 && self.is_skewed() => Cause::Clock,
            _ if self.status == 403 => Cause::NoRight,
            _ => return None,
        };
        Some(cause)
    }

    fn cause_of_google(&self) -> Option<Cause> {
        let says = |word: &str| self.message.to_ascii_lowercase().contains(word);
        let cause = match self.code.as_str() {
            "invalid_grant" if says("timeframe") => Cause::Clock,
            "invalid_grant" if says("signature") => Cause::SecretWrong,
            "invalid_grant" if says("account not found") => Cause::KeyUnknown,
            "invalid_grant" if says("expired or revoked") => Cause::Expired,
            "invalid_grant" | "invalid_client" | "unauthorized_client" => Cause::LoginRefused,
            "storageQuotaExceeded" | "quotaExceeded" => Cause::Full,
            "rateLimitExceeded" | "userRateLimitExceeded" | "backendError" => Cause::Busy,
            "notFound" if says("bucket") => Cause::NoPlace,
            _ if self.status == 401 => Cause::LoginRefused,
            _ if self.status == 403 => Cause::NoRight,
            _ => return None,
        };
        Some(cause)
    }

    fn cause_of_b2(&self) -> Option<Cause> {
        let cause = match self.code.as_str() {
            "bad_bucket_id" => Cause::NoPlace,
            "expired_auth_token" => Cause::Expired,
            "storage_cap_exceeded" | "cap_exceeded" => Cause::Full,
            "too_many_requests" | "service_error" => Cause::Busy,
            _ if self.status == 401 => Cause::LoginRefused,
            _ if self.status == 403 => Cause::NoRight,
            _ => return None,
        };
        Some(cause)
    }

    fn cause_of_dav(&self, operation: &str) -> Option<Cause> {
        let cause = match self.status {
            401 => Cause::LoginRefused,
            403 => Cause::NoRight,
            // RFC 4918, section 9.3.1: what it is to lie in is not there.
            409 => Cause::NoPlace,
            423 => Cause::Busy,
            // So says the library of Go when a file could not be written, whatever the reason.
            405 if operation == "write" => Cause::Full,
            // It speaks no WebDAV.
            405 | 501 => Cause::NoStore,
            _ => return None,
        };
        Some(cause)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    type Row = (&'static str, u16, &'static str, String, Option<Cause>, &'static str);

    /// What the real servers answered, and what others are documented to answer: service, status, type, body, what is behind it, what is shown.
    #[test]
    fn what_is_behind_a_refusal_is_read_from_what_was_said() {
        let s3 = |code: &str| {
            format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>Words.</Message><Resource>/test/r</Resource><RequestId>18EC</RequestId></Error>"
            )
        };
        let azure = |code: &str, text: &str| {
            format!(
                "\u{feff}<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n<Error>\n  <Code>{code}</Code>\n  <Message>{text}\nRequestId:7029f5-da74\nTime:2026-11-30T18:10:08.060Z</Message>\n</Error>"
            )
        };
        let google = |status: u16, reason: &str, text: &str| {
            format!(
                "{{\"error\": {{\"code\": {status}, \"message\": \"{text}\", \"errors\": [{{\"domain\": \"global\", \"reason\": \"{reason}\"}}]}}}}"
            )
        };
        let b2 = |status: u16, code: &str| format!("{{\"code\": \"{code}\", \"message\": \"\", \"status\": {status}}}");
        let page = "<html><title>Blocked</title></html>".to_owned();
        let xml = "application/xml";
        let table: Vec<Row> = vec![
            // SeaweedFS 4.48 and rclone serve s3 1.75.
            ("s3", 404, xml, s3("NoSuchBucket"), Some(Cause::NoPlace), "NoSuchBucket: Words."),
            ("s3", 403, xml, s3("SignatureDoesNotMatch"), Some(Cause::SecretWrong), "SignatureDoesNotMatch"),
            ("s3", 403, xml, s3("InvalidAccessKeyId"), Some(Cause::KeyUnknown), "InvalidAccessKeyId"),
            ("s3", 403, xml, s3("AccessDenied"), Some(Cause::NoRight), "AccessDenied"),
            ("s3", 403, xml, s3("RequestTimeTooSkewed"), Some(Cause::Clock), "RequestTimeTooSkewed"),
            ("s3", 405, xml, s3("MethodNotAllowed"), None, "MethodNotAllowed"),
            ("s3", 400, "text/plain", "Client sent an HTTP request to an HTTPS server.\n".into(), Some(Cause::Tls), "HTTP 400"),
            // As AWS documents them.
            ("s3", 301, xml, s3("PermanentRedirect"), Some(Cause::Region), "PermanentRedirect"),
            ("s3", 400, xml, s3("AuthorizationHeaderMalformed").replace("<Resource>", "<Region>eu-9</Region><Resource>"), Some(Cause::Region), "AuthorizationHeaderMalformed"),
            ("s3", 400, xml, s3("ExpiredToken"), Some(Cause::Expired), "ExpiredToken"),
            ("s3", 503, xml, s3("SlowDown"), Some(Cause::Busy), "SlowDown"),
            ("s3", 507, xml, s3("XMinioStorageFull"), Some(Cause::Full), "XMinioStorageFull"),
            ("s3", 403, xml, format!("<ErrorResponse xmlns=\"x\">{}<RequestId>1</RequestId></ErrorResponse>", &s3("AccessDenied")[39..]), Some(Cause::NoRight), "AccessDenied: Words."),
            ("s3", 404, xml, s3("NoSuchKey"), None, "NoSuchKey"),
            ("s3", 404, xml, String::new(), None, "HTTP 404 Not Found"),
            ("s3", 403, xml, String::new(), Some(Cause::NoRight), "HTTP 403 Forbidden"),
            ("s3", 403, "text/html", page.clone(), Some(Cause::NoStore), "a web page (\"Blocked\")"),
            ("s3", 404, "text/html", page.clone(), Some(Cause::NoStore), "a web page"),
            ("s3", 503, "text/html", page.clone(), Some(Cause::Busy), "a web page"),
            ("s3", 511, "text/html", page.clone(), Some(Cause::NoStore), "a web page"),
            ("s3", 407, "text/html", page.clone(), Some(Cause::Proxy), "a web page"),
            // Azurite 3.35.
            ("azblob", 404, xml, azure("ContainerNotFound", "The specified container does not exist."), Some(Cause::NoPlace), "ContainerNotFound: The specified container does not exist."),
            ("azblob", 403, xml, azure("AuthorizationFailure", "Server failed to authenticate the request."), Some(Cause::SecretWrong), "AuthorizationFailure"),
            ("azblob", 404, xml, azure("ResourceNotFound", "The specified resource does not exist."), Some(Cause::KeyUnknown), "ResourceNotFound"),
            ("azblob", 404, xml, azure("BlobNotFound", "The specified blob does not exist."), None, "BlobNotFound"),
            // As Microsoft documents them.
            ("azblob", 403, xml, azure("AuthenticationFailed", "Signature not valid in the specified time frame"), Some(Cause::Expired), "time frame"),
            ("azblob", 403, xml, azure("AuthorizationPermissionMismatch", "Not with this permission."), Some(Cause::NoRight), "AuthorizationPermissionMismatch"),
            ("azblob", 401, xml, azure("NoAuthenticationInformation", "No."), Some(Cause::NoCredentials), "NoAuthenticationInformation"),
            // As Google and Backblaze document them.
            ("gcs", 404, "application/json", google(404, "notFound", "The specified bucket does not exist."), Some(Cause::NoPlace), "notFound: The specified bucket"),
            ("gcs", 403, "application/json", google(403, "forbidden", "x does not have storage.objects.list access"), Some(Cause::NoRight), "forbidden"),
            ("gcs", 401, "application/json", google(401, "authError", "Invalid Credentials"), Some(Cause::LoginRefused), "authError: Invalid Credentials"),
            ("gcs", 400, "application/json", "{\"error\": \"invalid_grant\", \"error_description\": \"Invalid JWT Signature.\"}".into(), Some(Cause::SecretWrong), "invalid_grant: Invalid JWT Signature."),
            ("gcs", 400, "application/json", "{\"error\": \"invalid_grant\", \"error_description\": \"Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe.\"}".into(), Some(Cause::Clock), "timeframe"),
            ("gdrive", 403, "application/json", google(403, "storageQuotaExceeded", "No room."), Some(Cause::Full), "No room."),
            ("gdrive", 403, "application/json", google(403, "userRateLimitExceeded", "Slower."), Some(Cause::Busy), "Slower."),
            ("b2", 401, "application/json", b2(401, "bad_auth_token"), Some(Cause::LoginRefused), "bad_auth_token"),
            ("b2", 403, "application/json", b2(403, "storage_cap_exceeded"), Some(Cause::Full), "storage_cap_exceeded"),
            ("b2", 403, "application/json", b2(403, "access_denied"), Some(Cause::NoRight), "access_denied"),
            ("b2", 400, "application/json", b2(400, "bad_bucket_id"), Some(Cause::NoPlace), "bad_bucket_id"),
            // rclone serve webdav 1.75; sabre/dav (Nextcloud); Apache, nginx.
            ("webdav", 401, "text/plain", "401 Unauthorized\n".into(), Some(Cause::LoginRefused), "HTTP 401 Unauthorized"),
            ("webdav", 409, "text/plain", "Conflict".into(), Some(Cause::NoPlace), "HTTP 409 Conflict"),
            ("webdav", 403, xml, "<d:error xmlns:d=\"DAV:\" xmlns:s=\"http://sabredav.org/ns\"><s:exception>Forbidden</s:exception><s:message>No</s:message></d:error>".into(), Some(Cause::NoRight), "Forbidden: No"),
            ("webdav", 507, xml, "<d:error xmlns:d=\"DAV:\" xmlns:s=\"http://sabredav.org/ns\"><s:exception>InsufficientStorage</s:exception><s:message/></d:error>".into(), Some(Cause::Full), "InsufficientStorage"),
            ("webdav", 423, "text/html", page.clone(), Some(Cause::Busy), "a web page"),
            ("webdav", 403, "text/html", page.clone(), Some(Cause::NoRight), "a web page"),
            ("webdav", 405, "text/html", page, Some(Cause::NoStore), "a web page"),
        ];
        for (scheme, status, kind, body, cause, words) in table {
            let headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, kind.parse().unwrap())]);
            let said = Said::read(StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes());
            assert_eq!(said.cause(scheme, "list"), cause, "{scheme} {status} {body}");
            assert!(said.words().contains(words), "{scheme} {status} {body}: {}", said.words());
        }
    }

    #[test]
    fn a_server_of_webdav_that_cannot_write_says_so_in_a_strange_way() {
        let said = Said::read(StatusCode::METHOD_NOT_ALLOWED, &HeaderMap::new(), b"Method Not Allowed");
        assert_eq!(said.cause("webdav", "write"), Some(Cause::Full));
        assert_eq!(said.cause("webdav", "list"), Some(Cause::NoStore));
        assert_eq!(said.words(), "HTTP 405 Method Not Allowed");
    }

    #[test]
    fn whatever_is_said_is_short_and_does_nothing_to_a_terminal() {
        for body in [
            "\u{1b}[2J".repeat(5_000),
            format!("<Error><Code>{0}</Code><Message>{0}</Message></Error>", "\u{202e}x".repeat(5_000)),
            "<".repeat(60_000),
        ] {
            let said = Said::read(StatusCode::BAD_REQUEST, &HeaderMap::new(), body.as_bytes());
            let words = said.words();
            assert!(words.len() < 6_000 && !words.contains(['\u{1b}', '\u{202e}', '\n']), "{words}");
        }
    }

    #[test]
    fn a_clock_that_is_wrong_is_seen_where_nothing_is_said() {
        let said = |date: &str| {
            let headers = HeaderMap::from_iter([(DATE, date.parse().unwrap())]);
            Said::read(StatusCode::FORBIDDEN, &headers, b"")
        };
        assert_eq!(said("Sun, 29 Nov 2020 12:00:00 GMT").cause("s3", "read"), Some(Cause::Clock));
        let now = jiff::fmt::rfc2822::to_string(&Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC)).unwrap();
        assert_eq!(said(&now).cause("s3", "read"), Some(Cause::NoRight));
    }
}
