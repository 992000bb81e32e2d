//! What a failure of a store is: whether it says something of the object, of our rights, or of the line; and whether it may pass.
//!
//! OpenDAL keeps what was said in words, four levels down: there is no other way to it.

use std::error::Error as _;

use super::ErrorKind;
use super::answer::Unfit;
use super::said::Said;
use crate::base::escape::escape;
use crate::storage::cause::Cause;

pub(super) const WRONG_CLOCK: &str = "the clock of this machine is wrong: it differs by more than a quarter of an hour from the store's, which refuses what is signed with such a time";

/// Everything that an error and its causes say, each once: OpenDAL keeps "connection refused" four levels down.
pub(super) fn all_words(error: &opendal::Error) -> String {
    let mut text = match error.kind() {
        opendal::ErrorKind::Unexpected => error.message().to_owned(),
        kind => format!("{kind}: {}", error.message()),
    };
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

/// What kind of failure of `operation` it is, what is behind it, and what is said about it. `said` is what the store answered last, when that was no
/// success.
pub(super) fn reading_of(
    scheme: &str,
    operation: &str,
    error: &opendal::Error,
    said: Option<&Said>,
) -> (ErrorKind, Option<Cause>, String) {
    let words = match said {
        // What points elsewhere was read before.
        Some(said) if error.source().is_none() && said.status >= 400 => said.words(),
        _ => shorten(all_words(error)),
    };
    // Who asks for credentials may be answered too, by a machine's metadata or by nobody in particular.
    let of_words = cause_of(scheme, operation, error);
    let said = said.filter(|said| of_words != Some(Cause::NoCredentials) || !said.code.is_empty());
    let cause = said.and_then(|said| said.cause(scheme, operation)).or(of_words);
    let kind = match cause {
        Some(Cause::Clock) => return (ErrorKind::Refused, cause, WRONG_CLOCK.to_owned()),
        Some(Cause::NoStore) => ErrorKind::Refused,
        Some(Cause::Full) => ErrorKind::Full,
        Some(cause) if cause.may_pass() => ErrorKind::Unavailable,
        // The object is absent because everything is.
        Some(Cause::NoPlace | Cause::KeyUnknown) if kind_of(error) == ErrorKind::Absent => ErrorKind::Denied,
        _ => kind_of(error),
    };
    (kind, cause, words)
}

/// ssh warns of a changed key with a page. What it shows now is what has to be compared.
fn shorten(words: String) -> String {
    if !words.contains("IDENTIFICATION HAS CHANGED") {
        return words;
    }
    let is_part = |byte: char| byte.is_ascii_alphanumeric() || "+/=:".contains(byte);
    let fingerprint =
        words.find("SHA256:").map(|at| words[at..].split(|byte| !is_part(byte)).next().unwrap_or_default());
    fingerprint.map_or_else(|| "its fingerprint is not said".to_owned(), |it| format!("its fingerprint is {it} now"))
}

/// What is behind a failure that no answer of a store is about: the line, the certificate, ssh, the settings. The first that is found.
const CAUSES: [(&str, Cause); 24] = [
    ("certificate not valid for name", Cause::CertificateName),
    ("NotValidForName", Cause::CertificateName),
    ("certificate expired", Cause::CertificateTime),
    ("certificate not valid yet", Cause::CertificateTime),
    ("certificate", Cause::Certificate),
    ("corrupt message", Cause::Tls),
    ("IDENTIFICATION HAS CHANGED", Cause::HostKeyChanged),
    ("has changed and you have requested strict checking", Cause::HostKeyChanged),
    ("Host key verification failed", Cause::HostKeyUnknown),
    ("Name or service not known", Cause::HostUnknown),
    ("No address associated with hostname", Cause::HostUnknown),
    ("nodename nor servname provided", Cause::HostUnknown),
    ("Temporary failure in name resolution", Cause::HostUnknown),
    ("Connection refused", Cause::ConnectionRefused),
    ("No route to host", Cause::NoNetwork),
    ("Network is unreachable", Cause::NoNetwork),
    ("timed out", Cause::Silent),
    ("Permission denied (", Cause::KeyRefused),
    ("Too many authentication failures", Cause::KeyRefused),
    ("failed to load signing credential", Cause::NoCredentials),
    ("no valid credential found", Cause::NoCredentials),
    // Of an SFTP server.
    ("error kind PermissionDenied", Cause::NoRight),
    ("error kind PermDenied", Cause::NoRight),
    ("Proxy Authentication Required", Cause::Proxy),
];

fn cause_of(scheme: &str, operation: &str, error: &opendal::Error) -> Option<Cause> {
    let unfit = error.source().and_then(|source| source.downcast_ref::<Unfit>());
    if let Some(unfit) = unfit {
        return (!matches!(unfit, Unfit::Cut { .. } | Unfit::Failed { passes: true, .. })).then_some(Cause::NoStore);
    }
    let words = all_words(error);
    let found = CAUSES.iter().find(|(says, _)| words.contains(says)).map(|(_, cause)| *cause);
    // Of OpenSSH's server: every reason that it has no word for, a full disk among them.
    if operation == "write" && words.contains("error kind Failure") {
        return Some(Cause::Full);
    }
    // Elsewhere it may be an upload in parts that the store has lost.
    let is_missing = scheme == "sftp" && operation == "write" && error.kind() == opendal::ErrorKind::NotFound;
    found.or_else(|| is_missing.then_some(Cause::NoPlace))
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
pub(super) fn may_pass(error: &opendal::Error) -> bool {
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
            (NotFound, s3("NoSuchKey"), false, ErrorKind::Absent),
            (Unexpected, s3("NotImplemented"), false, ErrorKind::Refused),
        ] {
            let error = opendal::Error::new(opendal_kind, words.clone()).with_temporary(is_temporary);
            assert_eq!(reading_of("s3", "list", &error, None).0, kind, "{words}");
        }
    }
    /// What the line, TLS and ssh say, as they were seen to say it, and what is behind it.
    #[test]
    fn what_is_behind_a_failure_without_an_answer_is_read_from_its_words() {
        let connect = "send http request: client error (Connect): ";
        let ssh = "ssh error: failed to connect to the remote host: ";
        for (words, cause) in [
            (format!("{connect}invalid peer certificate: UnknownIssuer"), Some(Cause::Certificate)),
            (
                format!("{connect}invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))"),
                Some(Cause::Certificate),
            ),
            (
                format!(
                    "{connect}invalid peer certificate: certificate not valid for name \"127.0.0.1\"; certificate is only valid for DnsName(\"localhost\")"
                ),
                Some(Cause::CertificateName),
            ),
            (
                format!(
                    "{connect}invalid peer certificate: certificate expired: verification time 1796062208 (UNIX), but certificate is not valid after 1 (2 seconds ago)"
                ),
                Some(Cause::CertificateTime),
            ),
            (format!("{connect}received corrupt message of type InvalidContentType"), Some(Cause::Tls)),
            (
                format!("{connect}dns error: failed to lookup address information: Name or service not known"),
                Some(Cause::HostUnknown),
            ),
            (format!("{connect}tcp connect error: Connection refused (os error 111)"), Some(Cause::ConnectionRefused)),
            (format!("{connect}tcp connect error: Network is unreachable (os error 101)"), Some(Cause::NoNetwork)),
            (format!("{connect}operation timed out"), Some(Cause::Silent)),
            ("signing http request: failed to load signing credential".to_owned(), Some(Cause::NoCredentials)),
            (
                format!(
                    "{ssh}No ED25519 host key is known for [127.0.0.1]:18850 and you have requested strict checking.\r\nHost key verification failed."
                ),
                Some(Cause::HostKeyUnknown),
            ),
            (
                format!("{ssh}@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\r\nHost key verification failed."),
                Some(Cause::HostKeyChanged),
            ),
            (
                format!("{ssh}root@127.0.0.1: Permission denied (publickey,keyboard-interactive)."),
                Some(Cause::KeyRefused),
            ),
            (format!("{ssh}connect to host 127.0.0.1 port 1: Connection refused"), Some(Cause::ConnectionRefused)),
            (
                format!("{ssh}Could not resolve hostname no-such-host.invalid: Name or service not known"),
                Some(Cause::HostUnknown),
            ),
            ("something else".to_owned(), None),
        ] {
            let error = opendal::Error::new(opendal::ErrorKind::Unexpected, words.clone());
            assert_eq!(reading_of("sftp", "list", &error, None).1, cause, "{words}");
        }
        let missing =
            opendal::Error::new(opendal::ErrorKind::NotFound, "sftp error: Sftp server reported error kind NoSuchFile");
        assert_eq!(reading_of("sftp", "write", &missing, None).1, Some(Cause::NoPlace));
        assert_eq!(reading_of("sftp", "read", &missing, None).1, None);
    }
}
