//! Where a mirror lies: a service, a place in it, and options. Nothing secret stands in an address.
//!
//! ```text
//! s3://BUCKET/PATH  azblob://CONTAINER/PATH  gcs://BUCKET/PATH  b2://BUCKET/PATH  gdrive://PATH
//! sftp://USER@HOST:PORT/PATH  webdav://HOST/PATH  file:///PATH  /PATH
//! ```
//!
//! Options stand behind a question mark or are given by themselves (`-o key=value`). Each service has its list: OpenDAL
//! ignores what it does not know, so a mistyped name would silently mean something else. Secrets come from the
//! environment, a file or a command ([`Service::secrets`]), and are refused here: an address is shown and stored.
//!
//! What a person types may also be a path from the current directory. Many programs write `s3:bucket` or `host:path` for a place elsewhere, so
//! a first component with a colon is neither here: taken for a directory, it would be a copy on this disk that passes for one far away.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use url::Url;

use crate::base::escape::escape;

/// A kind of store, and what it may be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    /// The scheme in an address, and OpenDAL's name.
    pub scheme: &'static str,
    /// What an option may say.
    pub options: &'static [&'static str],
    /// What must come from elsewhere.
    pub secrets: &'static [&'static str],
    /// How it takes an object.
    pub sending: Sending,
    /// A write that is cut off leaves part of the object under its name: it is written under another one and renamed.
    pub renames: bool,
}

/// How the options begin by which S3 is shown a key with each request.
pub const CUSTOMER_KEY: &str = "server_side_encryption_customer_";
/// Why they are not taken.
pub const NO_CUSTOMER_KEY: &str = "S3 keys of your own (SSE-C) are not supported. Everything is encrypted before it leaves this machine, and a mirror \
    whose SSE-C key is lost cannot be read. To let the store encrypt with its own keys: server_side_encryption=AES256, or aws:kms";

/// The file of certificates that count for a mirror.
const CA_FILE: &str = "ca_file";
/// What is done with the key that an SFTP server shows, and OpenDAL's word for it.
const HOST_KEYS: &str = "known_hosts_strategy";
/// As ssh's `StrictHostKeyChecking`: yes, accept-new, no. What was once called "accept" took any key, also one that had changed, which nobody expects
/// of the word.
const HOST_KEY_RULES: [(&str, &str); 5] =
    [("strict", "Strict"), ("accept-new", "Add"), ("add", "Add"), ("accept", "Add"), ("accept-changed", "Accept")];

/// How a service takes the bytes of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    /// A small one in one request, a large one in parts (multipart upload, block list): it is there when they are put together.
    Parts,
    /// In one request, whose body comes piece by piece.
    Stream,
    /// In one request that is made as a whole.
    Whole,
    /// In pieces over a connection that is no HTTP.
    Pieces,
}

impl Service {
    /// Its requests are HTTP.
    #[must_use]
    pub fn is_http(&self) -> bool {
        self.sending != Sending::Pieces
    }

    /// It has folders, which may be absent: elsewhere names with a common beginning are nothing by themselves.
    #[must_use]
    pub fn has_folders(&self) -> bool {
        matches!(self.scheme, "webdav" | "sftp" | "gdrive" | "fs")
    }
}

/// The services that this program is built with.
pub const SERVICES: [Service; 8] = [
    Service {
        scheme: "s3",
        options: &[
            "endpoint",
            "region",
            "profile",
            "role_arn",
            "external_id",
            "role_session_name",
            "access_key_id",
            "disable_config_load",
            "disable_ec2_metadata",
            "skip_signature",
            "server_side_encryption",
            "server_side_encryption_aws_kms_key_id",
            "default_storage_class",
            "enable_virtual_host_style",
            "checksum_algorithm",
            "disable_list_objects_v2",
            "enable_request_payer",
            "default_acl",
            "ca_file",
        ],
        secrets: &["secret_access_key", "session_token"],
        sending: Sending::Parts,
        renames: false,
    },
    Service {
        scheme: "azblob",
        options: &["endpoint", "account_name", "ca_file"],
        secrets: &["account_key", "sas_token"],
        sending: Sending::Parts,
        renames: false,
    },
    Service {
        scheme: "gcs",
        options: &[
            "endpoint",
            "scope",
            "service_account",
            "credential_path",
            "default_storage_class",
            "skip_signature",
            "ca_file",
        ],
        secrets: &["credential", "token"],
        sending: Sending::Parts,
        renames: false,
    },
    Service {
        scheme: "b2",
        options: &["bucket_id", "application_key_id", "ca_file"],
        secrets: &["application_key"],
        sending: Sending::Parts,
        renames: false,
    },
    Service {
        scheme: "gdrive",
        options: &["client_id", "ca_file"],
        secrets: &["access_token", "refresh_token", "client_secret"],
        sending: Sending::Whole,
        renames: false,
    },
    Service {
        scheme: "sftp",
        options: &["user", "key", "known_hosts_strategy"],
        secrets: &[],
        sending: Sending::Pieces,
        renames: true,
    },
    Service {
        scheme: "webdav",
        options: &["endpoint", "username", "ca_file"],
        secrets: &["password", "token"],
        sending: Sending::Stream,
        renames: true,
    },
    Service { scheme: "fs", options: &[], secrets: &[], sending: Sending::Pieces, renames: true },
];

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It is no URL of a known service.
    #[error("{0} is no address of a mirror: expected one like s3://BUCKET/PATH, sftp://USER@HOST/PATH or /PATH; known services: {known}", known = known())]
    Unknown(String),
    /// It may be meant for a service or for a directory.
    #[error(
        "\"{text}\" is neither an address nor a path: for {service}, for a directory of this name ./{text} or its absolute path"
    )]
    Ambiguous {
        /// What was given, escaped.
        text: String,
        /// How to name the service.
        service: String,
    },
    /// A part is missing or cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// An option that this service does not have.
    #[error("{scheme} has no option {key}: it has {known}")]
    Option {
        /// The service.
        scheme: &'static str,
        /// What was given, escaped.
        key: String,
        /// What there is.
        known: String,
    },
    /// A secret was given where it would be stored and shown.
    #[error("{key} is a secret and is not taken here: set PACKSTONE_MIRROR_{upper} or let --credentials-command print {key}=...", upper = key.to_uppercase())]
    Secret {
        /// Which one.
        key: &'static str,
    },
}

fn known() -> String {
    SERVICES.map(|service| service.scheme).join(", ")
}

/// See the module. Its [`fmt::Display`] is the address again, with its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    service: &'static Service,
    /// Bucket, container or host; empty where there is none.
    name: String,
    /// User of an SFTP server.
    user: String,
    /// Path in it, without slashes at the ends; with the first one for `fs` and `sftp`.
    root: String,
    options: BTreeMap<String, String>,
}

impl Address {
    /// Reads an address and further options, `key=value` each.
    ///
    /// # Errors
    /// See [`AddressError`].
    pub fn parse(text: &str, options: &[String]) -> Result<Self, AddressError> {
        let mut this = if text.starts_with('/') { Self::of_path(text)? } else { Self::of_url(text)? };
        for option in options {
            let (key, value) = option.split_once('=').ok_or_else(|| {
                AddressError::Invalid(format!("{} is no option: expected key=value", escape(option.as_bytes())))
            })?;
            this.set(key, value)?;
        }
        this.check()?;
        Ok(this)
    }

    /// The same for what a person typed: a path may begin in the directory `current`, where there is one.
    ///
    /// # Errors
    /// See [`AddressError`].
    pub fn parse_typed(text: &str, current: Option<&Path>, options: &[String]) -> Result<Self, AddressError> {
        if has_scheme(text) {
            return Self::parse(text, options);
        }
        if text.split('/').next().is_some_and(|first| first.contains(':')) {
            return Err(AddressError::Ambiguous { text: escape(text.as_bytes()), service: service_for(text) });
        }
        if text.is_empty() {
            return Err(AddressError::Unknown("\"\"".to_owned()));
        }
        let current = current.or_else(|| text.starts_with('/').then_some(Path::new("/")));
        let current =
            current.ok_or_else(|| AddressError::Invalid("the current directory cannot be determined".to_owned()))?;
        let path = absolute(&current.join(text));
        let path = path.to_str().ok_or_else(|| AddressError::Invalid("the path of a mirror is UTF-8".to_owned()))?;
        Self::parse(path, options)
    }

    fn of_path(path: &str) -> Result<Self, AddressError> {
        let service = find("fs").ok_or_else(|| AddressError::Unknown(path.to_owned()))?;
        let root = path.trim_end_matches('/').to_owned();
        Ok(Self { service, name: String::new(), user: String::new(), root, options: BTreeMap::new() })
    }

    fn of_url(text: &str) -> Result<Self, AddressError> {
        let unknown = || AddressError::Unknown(format!("\"{}\"", escape(text.as_bytes())));
        let url = Url::parse(text).map_err(|_| unknown())?;
        let scheme = match url.scheme() {
            "file" => "fs",
            "gs" => "gcs",
            "azure" => "azblob",
            other => other,
        };
        let service = find(scheme).ok_or_else(unknown)?;
        if url.password().is_some() {
            return Err(AddressError::Invalid(
                "a password does not belong into an address: it is stored and shown".to_owned(),
            ));
        }
        let decode = |part: &str| {
            let bytes = percent_decode(part);
            String::from_utf8(bytes).map_err(|_| AddressError::Invalid("the address is no UTF-8".to_owned()))
        };
        let path = decode(url.path())?;
        let host = url.host_str().unwrap_or_default();
        let name = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let (name, root) = match scheme {
            "fs" | "sftp" => (name, path.trim_end_matches('/').to_owned()),
            // What stands where a host would is the first part of the path.
            "gdrive" => (String::new(), format!("{name}/{}", path.trim_matches('/')).trim_matches('/').to_owned()),
            _ => (name, path.trim_matches('/').to_owned()),
        };
        if scheme == "fs" && !name.is_empty() {
            return Err(AddressError::Invalid(format!("file://{name}/... names a host: a directory is file:///PATH")));
        }
        let mut this = Self { service, name, user: decode(url.username())?, root, options: BTreeMap::new() };
        for (key, value) in url.query_pairs() {
            this.set(&key, &value)?;
        }
        Ok(this)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), AddressError> {
        if let Some(key) = self.service.secrets.iter().find(|secret| **secret == key) {
            return Err(AddressError::Secret { key });
        }
        if self.service.scheme == "s3" && key.starts_with(CUSTOMER_KEY) {
            return Err(AddressError::Invalid(NO_CUSTOMER_KEY.to_owned()));
        }
        if !self.service.options.contains(&key) {
            let (key, known) = (escape(key.as_bytes()), self.service.options.join(", "));
            return Err(AddressError::Option { scheme: self.service.scheme, key, known });
        }
        if key == HOST_KEYS && host_key_rule(value).is_none() {
            return Err(AddressError::Invalid(format!(
                "{HOST_KEYS}={} is none of these: strict (a server that is not known is refused), accept-new (it is remembered when it is met first, and \
                 another key is refused from then on), accept-changed (whatever it shows is taken)",
                escape(value.as_bytes())
            )));
        }
        if key == CA_FILE && !value.starts_with('/') {
            return Err(AddressError::Invalid(format!("{CA_FILE} is an absolute path: this command may run anywhere")));
        }
        self.options.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    fn check(&self) -> Result<(), AddressError> {
        let invalid = |text: &str| Err(AddressError::Invalid(text.to_owned()));
        match self.service.scheme {
            "fs" if self.root.is_empty() => invalid("a directory is needed: file:///PATH or /PATH"),
            "s3" | "gcs" | "b2" | "azblob" if self.name.is_empty() => {
                invalid("a bucket or container is needed, as in s3://BUCKET/PATH")
            }
            "sftp" if self.name.is_empty() => invalid("a host is needed, as in sftp://USER@HOST/PATH"),
            "webdav" if self.name.is_empty() && !self.options.contains_key("endpoint") => {
                invalid("a host is needed, as in webdav://HOST/PATH")
            }
            _ if self.root.split('/').any(|part| part == "..") => invalid("the path of a mirror has no .. in it"),
            _ => Ok(()),
        }
    }

    /// Its service.
    #[must_use]
    pub const fn service(&self) -> &'static Service {
        self.service
    }

    /// The directory of a mirror on this machine.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        (self.service.scheme == "fs").then(|| Path::new(&self.root))
    }

    /// The certificates that count for it, where it names some: a CA of one's own.
    #[must_use]
    pub fn ca_file(&self) -> Option<&Path> {
        self.options.get(CA_FILE).map(Path::new)
    }

    /// The same with a further option.
    ///
    /// # Errors
    /// See [`AddressError`].
    pub fn with_option(mut self, key: &str, value: &str) -> Result<Self, AddressError> {
        self.set(key, value)?;
        self.check()?;
        Ok(self)
    }

    /// What OpenDAL is told, secrets apart.
    #[must_use]
    pub fn settings(&self) -> BTreeMap<String, String> {
        let mut settings = self.options.clone();
        settings.remove(CA_FILE);
        if let Some(rule) = settings.get_mut(HOST_KEYS) {
            *rule = host_key_rule(rule).unwrap_or("Strict").to_owned();
        }
        let mut put = |key: &str, value: String| {
            settings.entry(key.to_owned()).or_insert(value);
        };
        match self.service.scheme {
            "s3" | "gcs" | "b2" => put("bucket", self.name.clone()),
            "azblob" => put("container", self.name.clone()),
            "sftp" => {
                put("endpoint", format!("ssh://{}", self.name));
                if !self.user.is_empty() {
                    put("user", self.user.clone());
                }
            }
            "webdav" => put("endpoint", format!("https://{}", self.name)),
            _ => {}
        }
        if self.service.scheme == "s3" {
            // Without it a bit that flips on the way is stored as it arrives.
            put("checksum_algorithm", "crc32c".to_owned());
            if settings.get("checksum_algorithm").is_some_and(|algorithm| algorithm == "off") {
                settings.remove("checksum_algorithm");
            }
        }
        settings.insert("root".to_owned(), format!("/{}", self.root.trim_start_matches('/')));
        settings
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.service.scheme == "fs" { "file" } else { self.service.scheme };
        write!(f, "{scheme}://")?;
        if !self.user.is_empty() {
            write!(f, "{}@", self.user)?;
        }
        write!(f, "{}", self.name)?;
        if !self.root.is_empty() && !self.root.starts_with('/') && !self.name.is_empty() {
            write!(f, "/")?;
        }
        for byte in self.root.bytes() {
            match byte {
                b'?' | b'#' | b'%' | b' ' => write!(f, "%{byte:02X}")?,
                byte if byte.is_ascii_graphic() => write!(f, "{}", char::from(byte))?,
                byte => write!(f, "%{byte:02X}")?,
            }
        }
        for (number, (key, value)) in self.options.iter().enumerate() {
            let value: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
            write!(f, "{}{key}={value}", if number == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

fn find(scheme: &str) -> Option<&'static Service> {
    SERVICES.iter().find(|service| service.scheme == scheme)
}

/// OpenDAL's word for a rule about the keys of servers.
fn host_key_rule(word: &str) -> Option<&'static str> {
    HOST_KEY_RULES.iter().find(|(known, _)| known.eq_ignore_ascii_case(word)).map(|(_, rule)| *rule)
}

/// True for what begins as a URL does.
fn has_scheme(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    let begins = |scheme: &str| scheme.starts_with(|first: char| first.is_ascii_alphabetic());
    text.split_once("://").is_some_and(|(scheme, _)| begins(scheme) && scheme.bytes().all(is_part))
}

/// Without `.` in it; `..` goes where the system would go, as far as that is there.
fn absolute(path: &Path) -> std::path::PathBuf {
    let plain = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    if !plain.components().any(|part| part == std::path::Component::ParentDir) {
        return plain;
    }
    match (plain.parent().map(Path::canonicalize), plain.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        _ => plain.canonicalize().unwrap_or(plain),
    }
}

/// How what other programs write as `service:place` or `user@host:path` is written here.
fn service_for(text: &str) -> String {
    let (before, rest) = text.split_once(':').unwrap_or((text, ""));
    let rest = rest.trim_start_matches('/');
    let url = |scheme: &str, rest: &str| format!("the service write {scheme}://{}", escape(rest.as_bytes()));
    // Other programs write bucket:path, and some bucket:/path.
    let (bucket, path) = rest.split_once(':').unwrap_or((rest, ""));
    let separate = || match path.trim_start_matches('/') {
        "" => bucket.to_owned(),
        path => format!("{bucket}/{path}"),
    };
    match before.to_ascii_lowercase().as_str() {
        "s3" | "gdrive" if !rest.is_empty() => url(&before.to_ascii_lowercase(), rest),
        "b2" if !bucket.is_empty() => url("b2", &separate()),
        "gs" | "gcs" if !bucket.is_empty() => url("gcs", &separate()),
        "azure" | "azblob" if !bucket.is_empty() => url("azblob", &separate()),
        "sftp" | "ssh" => "the service write sftp://USER@HOST/PATH".to_owned(),
        "dav" | "davs" | "webdav" => "the service write webdav://HOST/PATH".to_owned(),
        "file" => "a directory elsewhere write file:///PATH".to_owned(),
        _ if before.contains('@') => url("sftp", &format!("{before}/{rest}")),
        _ => "a service write s3://BUCKET/PATH, sftp://USER@HOST/PATH and the like".to_owned(),
    }
}

fn percent_decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let digit = |byte: &u8| char::from(*byte).to_digit(16).map(|digit| digit as u8);
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        let escaped = bytes.get(at + 1).and_then(digit).zip(bytes.get(at + 2).and_then(digit));
        match (byte, escaped) {
            (b'%', Some((high, low))) => {
                out.push(high << 4 | low);
                at += 3;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn settings(text: &str, options: &[&str]) -> BTreeMap<String, String> {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        Address::parse(text, &options).unwrap().settings()
    }

    #[test]
    fn addresses_become_settings() {
        let s3 = settings("s3://bucket/a/b?region=eu-west-1", &["endpoint=http://127.0.0.1:1"]);
        assert_eq!(s3["bucket"], "bucket");
        assert_eq!((s3["root"].as_str(), s3["region"].as_str()), ("/a/b", "eu-west-1"));
        assert_eq!((s3["endpoint"].as_str(), s3["checksum_algorithm"].as_str()), ("http://127.0.0.1:1", "crc32c"));
        assert!(!settings("s3://bucket", &["checksum_algorithm=off"]).contains_key("checksum_algorithm"));
        let sftp = settings("sftp://me@host:2222/srv/b", &[]);
        assert_eq!((sftp["endpoint"].as_str(), sftp["user"].as_str()), ("ssh://host:2222", "me"));
        assert_eq!(sftp["root"], "/srv/b");
        assert_eq!(settings("webdav://host/dav", &[])["endpoint"], "https://host");
        assert_eq!(settings("/srv/a b/", &[])["root"], "/srv/a b");
        assert_eq!(settings("file:///srv/a%20b", &[])["root"], "/srv/a b");
        assert_eq!(settings("gdrive://backups/x", &[])["root"], "/backups/x");
        for (word, rule) in [
            ("strict", "Strict"),
            ("accept-new", "Add"),
            ("Accept", "Add"),
            ("Add", "Add"),
            ("accept-changed", "Accept"),
        ] {
            let option = format!("known_hosts_strategy={word}");
            assert_eq!(settings("sftp://h/x", &[&option])["known_hosts_strategy"], rule);
        }
        assert!(!settings("webdav://h/x", &["ca_file=/ca.pem"]).contains_key("ca_file"));
    }

    #[test]
    fn an_address_is_written_as_it_is_read() {
        for text in
            ["s3://bucket/a/b?region=x", "sftp://me@host:22/srv", "file:///srv/a%20b%3F", "azblob://c", "gdrive://a/b"]
        {
            let address = Address::parse(text, &[]).unwrap();
            assert_eq!(address.to_string(), text);
            assert_eq!(Address::parse(&address.to_string(), &[]).unwrap(), address);
        }
    }

    #[test]
    fn what_is_typed_is_an_address_a_path_or_refused() {
        let current = tempfile::tempdir().unwrap();
        let real = current.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("here")).unwrap();
        let typed = |text: &str| Address::parse_typed(text, Some(&real.join("here")), &[]);
        let here = |rest: &str| format!("{}{rest}", real.display());
        for (text, expected) in [
            ("/srv/m", "/srv/m".to_owned()),
            ("/s3:bucket", "/s3:bucket".to_owned()),
            ("m", here("/here/m")),
            ("./m/", here("/here/m")),
            (".", here("/here")),
            ("../m", here("/m")),
            ("..", here("")),
            ("./s3:bucket", here("/here/s3:bucket")),
            ("a/b:c", here("/here/a/b:c")),
            ("./a://b", here("/here/a:/b")),
        ] {
            assert_eq!(typed(text).unwrap().directory(), Some(Path::new(&expected)), "{text}");
        }
        for (text, expected) in
            [("s3://b/x", "s3://b/x"), ("sftp://u@h/x", "sftp://u@h/x"), ("file:///srv", "file:///srv")]
        {
            assert_eq!(typed(text).unwrap().to_string(), expected);
        }
        for (text, service) in [
            ("s3:bucket", "s3://bucket,"),
            ("s3:bucket/a:b", "s3://bucket/a:b,"),
            ("S3:/bucket", "s3://bucket,"),
            ("b2:bucket:path", "b2://bucket/path,"),
            ("gs:bucket:/", "gcs://bucket,"),
            ("gs:bucket:/a:b", "gcs://bucket/a:b,"),
            ("azure:c:/", "azblob://c,"),
            ("gdrive:backup", "gdrive://backup,"),
            ("user@host:/srv/backup", "sftp://user@host/srv/backup,"),
            ("sftp:user@host:/srv/x", "sftp://USER@HOST/PATH"),
            ("host:path", "sftp://USER@HOST/PATH"),
            ("rclone:remote:x", "s3://BUCKET/PATH"),
            ("rest:http:/h/", "s3://BUCKET/PATH"),
            ("C:\\backup", "s3://BUCKET/PATH"),
            ("file:/srv", "file:///PATH"),
            ("s3:", "s3://BUCKET/PATH"),
            (":", "s3://BUCKET/PATH"),
        ] {
            let error = typed(text).unwrap_err();
            assert!(matches!(error, AddressError::Ambiguous { .. }), "{text}: {error}");
            let directory = format!("./{}", escape(text.as_bytes()));
            assert!(error.to_string().contains(service) && error.to_string().contains(&directory), "{text}: {error}");
        }
        assert!(typed("").is_err() && typed("rest://h/x").is_err() && typed("here/../../../\u{0}").is_err());
        assert!(Address::parse_typed("m", None, &[]).is_err() && Address::parse_typed("/m", None, &[]).is_ok());
        // What was typed does nothing to the terminal.
        assert!(!typed("s3:\u{1b}[2J").unwrap_err().to_string().contains('\u{1b}'));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let refused = |text: &str, option: &str| {
            let options: Vec<String> =
                Some(option.to_owned()).filter(|option| !option.is_empty()).into_iter().collect();
            Address::parse(text, &options).unwrap_err().to_string()
        };
        assert!(refused("nfs://x/y", "").contains("known services: s3, azblob"));
        assert!(refused("s3://b", "regoin=x").contains("s3 has no option regoin"));
        assert!(refused("s3://b", "secret_access_key=x").contains("PACKSTONE_MIRROR_SECRET_ACCESS_KEY"));
        assert!(refused("s3://", "").contains("bucket"));
        assert!(refused("webdav://u:p@h/x", "").contains("password"));
        assert!(refused("/srv/../etc", "").contains(".."));
        assert!(refused("s3://b", "x").contains("key=value"));
        assert!(refused("sftp://h/x", "known_hosts_strategy=always").contains("accept-new"));
        assert!(refused("s3://b", "ca_file=ca.pem").contains("absolute path"));
        assert!(refused("sftp://h/x", "ca_file=/ca.pem").contains("sftp has no option ca_file"));
        for key in ["key", "algorithm", "key_md5"] {
            assert!(refused("s3://b", &format!("server_side_encryption_customer_{key}=x")).contains("SSE-C"));
        }
    }
}
