//! What a failure of a store is: whether it says something of the object, of our rights, or of the line; and whether it may pass.
//!
//! OpenDAL keeps what was said in words, four levels down: there is no other way to it.

use std::error::Error as _;
use std::time::Duration;

use super::ErrorKind;
use crate::base::escape::escape;

/// Stores refuse a request whose time differs from theirs by more than this.
const SKEW_MAX: Duration = Duration::from_secs(15 * 60);
const WRONG_CLOCK: &str = "the clock of this machine is wrong: it differs by more than a quarter of an hour from the store's, which \
    refuses what is signed with such a time; set the clock, and run the command again";

/// Everything that an error and its causes say, each once: OpenDAL keeps "connection refused" four levels down.
pub(super) fn all_words(error: &opendal::Error) -> String {
    let mut text = format!("{}: {}", error.kind(), error.message());
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    escape(text.as_bytes())
}

fn kind_of(error: &opendal::Error) -> ErrorKind {
    match error.kind() {
        opendal::ErrorKind::NotFound => ErrorKind::Absent,
        opendal::ErrorKind::PermissionDenied | opendal::ErrorKind::ConfigInvalid => ErrorKind::Denied,
        opendal::ErrorKind::RangeNotSatisfied => ErrorKind::Length,
        opendal::ErrorKind::IsADirectory => ErrorKind::NoFile,
        opendal::ErrorKind::RateLimited => ErrorKind::Unavailable,
        _ if may_pass(error) => ErrorKind::Unavailable,
        _ => ErrorKind::Refused,
    }
}

/// What kind of failure it is, and what is said about it.
pub(super) fn reading_of(error: &opendal::Error) -> (ErrorKind, String) {
    if error.kind() == opendal::ErrorKind::PermissionDenied && is_about_the_clock(error) {
        return (ErrorKind::Refused, WRONG_CLOCK.to_owned());
    }
    (kind_of(error), all_words(error))
}

/// A refusal because of the time of a request. S3 names it so; where the answer has no body (to HEAD), the store's own time tells.
fn is_about_the_clock(error: &opendal::Error) -> bool {
    if !error.message().is_empty() {
        return error.message().contains("RequestTimeTooSkewed");
    }
    // OpenDAL shows the headers of an answer, and gives them no other way.
    let shown = error.to_string();
    let date = shown.split_once("\"date\": \"").and_then(|(_, rest)| rest.split_once('"')).map(|(date, _)| date);
    let theirs = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()).map(|date| date.timestamp());
    theirs.is_some_and(|theirs| jiff::Timestamp::now().duration_since(theirs).unsigned_abs() > SKEW_MAX)
}

/// Words for what may pass where OpenDAL does not say so: those of ssh for a line or a server, those of S3 for a body that arrived damaged.
const PASSING: [&str; 12] = [
    "Connection refused",
    "Connection reset",
    "Connection timed out",
    "Connection closed",
    "Operation timed out",
    "Broken pipe",
    "No route to host",
    "Network is unreachable",
    "Temporary failure in name resolution",
    // The store has other bytes than were sent.
    "BadDigest",
    "InvalidDigest",
    "XAmzContentChecksumMismatch",
];

/// What waiting does not mend, though it ends a connection.
const PERMANENT: [&str; 6] = [
    // A certificate does not become valid.
    "certificate",
    // No TLS is spoken there.
    "corrupt message",
    // There is no such host, and no server was asked in vain.
    "Name or service not known",
    "No address associated with hostname",
    "nodename nor servname provided",
    "Host key verification failed",
];

/// Whether the same request may succeed later.
fn may_pass(error: &opendal::Error) -> bool {
    let words = all_words(error);
    let says = |list: &[&str]| list.iter().any(|word| words.contains(word));
    !says(&PERMANENT) && (error.is_temporary() || says(&PASSING))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What real servers answered, service by service, and what it is. The last column: OpenDAL calls it temporary.
    #[test]
    fn what_passes_is_tried_again_and_what_does_not_is_not() {
        use opendal::ErrorKind::{NotFound, PermissionDenied, RateLimited, Unexpected};
        let http = "send http request: error sending request: client error (Connect): ";
        let tcp = |words: &str| format!("{http}tcp connect error: {words}");
        let dns = |words: &str| {
            format!("{http}dns error: error resolving DNS: failed to lookup address information: {words}")
        };
        let ssh = |words: &str| format!("ssh error: failed to connect to the remote host: {words}");
        let s3 = |code: &str| format!("S3Error {{ code: \"{code}\", message: \"\" }}");
        for (opendal_kind, words, is_temporary, kind) in [
            (Unexpected, tcp("Connection refused (os error 111)"), true, ErrorKind::Unavailable),
            (Unexpected, tcp("Connection reset by peer (os error 104)"), true, ErrorKind::Unavailable),
            (Unexpected, tcp("Network is unreachable (os error 101)"), true, ErrorKind::Unavailable),
            (Unexpected, dns("Temporary failure in name resolution"), true, ErrorKind::Unavailable),
            (Unexpected, dns("Name or service not known"), true, ErrorKind::Refused),
            (Unexpected, dns("No address associated with hostname"), true, ErrorKind::Refused),
            (
                Unexpected,
                format!("{http}received corrupt message of type InvalidContentType"),
                true,
                ErrorKind::Refused,
            ),
            (Unexpected, format!("{http}invalid peer certificate: UnknownIssuer"), true, ErrorKind::Refused),
            (Unexpected, format!("{http}tls handshake eof"), true, ErrorKind::Unavailable),
            (
                Unexpected,
                "read data from http response: error decoding response body".to_owned(),
                true,
                ErrorKind::Unavailable,
            ),
            (Unexpected, ssh("connect to host 127.0.0.1 port 1: Connection refused"), false, ErrorKind::Unavailable),
            (
                Unexpected,
                ssh("kex_exchange_identification: Connection closed by remote host"),
                false,
                ErrorKind::Unavailable,
            ),
            (
                Unexpected,
                ssh("Could not resolve hostname no-such-host.invalid: Name or service not known"),
                false,
                ErrorKind::Refused,
            ),
            (
                Unexpected,
                ssh("Could not resolve hostname h: Temporary failure in name resolution"),
                false,
                ErrorKind::Unavailable,
            ),
            (Unexpected, ssh("Host key verification failed."), false, ErrorKind::Refused),
            (Unexpected, ssh("root@127.0.0.1: Permission denied (publickey)."), false, ErrorKind::Refused),
            (Unexpected, s3("InternalError"), true, ErrorKind::Unavailable),
            (RateLimited, s3("SlowDown"), true, ErrorKind::Unavailable),
            (RateLimited, s3("SlowDown"), false, ErrorKind::Unavailable),
            (Unexpected, s3("BadDigest"), false, ErrorKind::Unavailable),
            (Unexpected, s3("XAmzContentChecksumMismatch"), false, ErrorKind::Unavailable),
            (PermissionDenied, s3("SignatureDoesNotMatch"), false, ErrorKind::Denied),
            (PermissionDenied, s3("RequestTimeTooSkewed"), false, ErrorKind::Refused),
            (NotFound, s3("NoSuchKey"), false, ErrorKind::Absent),
            (Unexpected, s3("NotImplemented"), false, ErrorKind::Refused),
        ] {
            let error = opendal::Error::new(opendal_kind, words.clone()).with_temporary(is_temporary);
            assert_eq!(reading_of(&error).0, kind, "{words}");
        }
    }
}
