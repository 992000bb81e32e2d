//! The sentences for a store that does not do what it was asked: one for each service and cause, with what to do next.
//!
//! Each names the mirror and what was tried, then what is behind it, then the store's own words; and as remedy the variable or option that it is
//! about. A repository on a disk has other remedies ([`super::error_mapping`]): who owns a directory here is no matter of a bucket.

use super::failure::{Failure, Kind};
use crate::base::command::{quote, suggest, unmarked};
use crate::storage::cause::{Behind, Cause, MirrorPlace};
use crate::storage::{self, ErrorKind};

/// What things are called at a service, and where its credentials come from.
struct Terms {
    /// What a mirror lies in.
    place: &'static str,
    /// What says who asks.
    key: &'static str,
    /// Where that is set.
    key_from: &'static str,
    /// What proves it.
    secret: &'static str,
    /// Its names as variables behind `PACKSTONE_MIRROR_`, in small letters.
    variables: &'static [&'static str],
    /// Where else it comes from.
    secret_from: &'static [&'static str],
    /// Who decides what may be done.
    rights: &'static str,
    /// What it takes to list, read, write and delete.
    needs: [&'static str; 4],
    /// What says where the service is, apart from the address.
    endpoint: &'static str,
}

/// The terms of a service.
fn terms(scheme: &str) -> Terms {
    match scheme {
        "s3" => Terms {
            place: "bucket",
            key: "key id",
            key_from: "--option access_key_id=ID, AWS_ACCESS_KEY_ID or the profile",
            secret: "secret key",
            variables: &["secret_access_key"],
            secret_from: &["AWS_SECRET_ACCESS_KEY", "the profile"],
            rights: "the policy of this key or of the bucket",
            needs: ["s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject"],
            endpoint: " or in --option endpoint=URL",
        },
        "azblob" => Terms {
            place: "container",
            key: "account",
            key_from: "--option account_name=NAME",
            secret: "account key or shared access signature",
            variables: &["account_key", "sas_token"],
            secret_from: &["--credentials-command"],
            rights: "the role of this account or its shared access signature",
            needs: ["list", "read", "create and write", "delete"],
            endpoint: " or in --option endpoint=URL",
        },
        "gcs" => Terms {
            place: "bucket",
            key: "service account",
            key_from: "--option credential_path=FILE or GOOGLE_APPLICATION_CREDENTIALS",
            secret: "credential",
            variables: &["credential", "token"],
            secret_from: &["the file that GOOGLE_APPLICATION_CREDENTIALS names"],
            rights: "the roles of this service account",
            needs: ["storage.objects.list", "storage.objects.get", "storage.objects.create", "storage.objects.delete"],
            endpoint: " or in --option endpoint=URL",
        },
        "b2" => Terms {
            place: "bucket",
            key: "application key id",
            key_from: "--option application_key_id=ID",
            secret: "application key",
            variables: &["application_key"],
            secret_from: &["--credentials-command"],
            rights: "the capabilities of this application key",
            needs: ["listFiles", "readFiles", "writeFiles", "deleteFiles"],
            endpoint: "",
        },
        "gdrive" => Terms {
            place: "folder",
            key: "client id",
            key_from: "--option client_id=ID",
            secret: "token",
            variables: &["access_token", "refresh_token", "client_secret"],
            secret_from: &["--credentials-command"],
            rights: "the scopes that the token was granted",
            needs: ["drive.file"; 4],
            endpoint: "",
        },
        "sftp" => Terms {
            place: "directory",
            key: "user",
            key_from: "the address, as in sftp://USER@HOST/PATH",
            secret: "key",
            variables: &[],
            secret_from: &["--option key=FILE", "~/.ssh/config", "an agent"],
            rights: "who owns the directories on the server, and their modes",
            needs: ["to list it", "to read there", "to write there", "to delete there"],
            endpoint: "",
        },
        "webdav" => Terms {
            place: "directory",
            key: "user",
            key_from: "--option username=USER",
            secret: "password",
            variables: &["password", "token"],
            secret_from: &["--credentials-command"],
            rights: "what the server lets this user do",
            needs: ["to list it", "to read there", "to write there", "to delete there"],
            endpoint: " or in --option endpoint=URL",
        },
        _ => Terms {
            place: "directory",
            key: "user",
            key_from: "who runs this command",
            secret: "password",
            variables: &[],
            secret_from: &["who runs this command"],
            rights: "who owns the mirror's directory, and how it is mounted",
            needs: ["to list it", "to read there", "to write there", "to delete there"],
            endpoint: " or in --option endpoint=URL",
        },
    }
}

impl Terms {
    /// The variables that the secret comes from, at this mirror, and where else it comes from.
    fn secret_from(&self, place: &MirrorPlace) -> String {
        let own = place.name.as_ref().map(|name| format!("{}_", name.to_uppercase().replace('-', "_")));
        let own = own.unwrap_or_default();
        let names = self.variables.iter().map(|key| format!("PACKSTONE_MIRROR_{own}{}", key.to_uppercase()));
        let names: Vec<String> = names.chain(self.secret_from.iter().map(|from| (*from).to_owned())).collect();
        match names.split_last() {
            Some((last, before)) if !before.is_empty() => format!("{} or {last}", before.join(", ")),
            _ => names.join(""),
        }
    }

    /// What an operation needs.
    fn needs(&self, operation: &str) -> &'static str {
        let [list, read, write, delete] = self.needs;
        match operation {
            "list" => list,
            "read" => read,
            "remove" => delete,
            _ => write,
        }
    }
}

/// What was tried at a mirror.
fn tried(error: &storage::Error, mirror: &str) -> String {
    let object = &error.object;
    match error.operation {
        "list" => format!("{mirror} cannot be listed"),
        "read" => format!("{object} cannot be read from {mirror}"),
        "write" | "fsync" => format!("{object} cannot be written to {mirror}"),
        "rename" => format!("{object} cannot be given its name on {mirror}"),
        "remove" => format!("{object} cannot be removed from {mirror}"),
        _ => format!("{mirror} cannot be opened"),
    }
}

/// What is behind it in words, and what to do next.
fn sentence(cause: Cause, operation: &str, place: &MirrorPlace) -> (String, String) {
    let terms = terms(place.service().scheme);
    let Terms { key, key_from, secret, rights, endpoint, .. } = terms;
    let what = terms.place;
    let secret_from = terms.secret_from(place);
    let (why, next) = match cause {
        Cause::NoPlace if place.service().has_folders() => (
            format!("the {what} that it is to lie in is not there, or cannot be made"),
            format!("check the path in the address, and make the {what} above it on the server"),
        ),
        Cause::NoPlace => (
            format!("there is no such {what}"),
            format!("check the name in the address; a {what} is made with the tools of the service, not by packstone"),
        ),
        Cause::Region => (
            format!("the {what} is in another region"),
            "name its region: --option region=REGION; or the endpoint of that region: --option endpoint=URL".to_owned(),
        ),
        Cause::NoCredentials => (
            "there are no credentials for it".to_owned(),
            format!("the {key} comes from {key_from}; the {secret} from {secret_from}"),
        ),
        Cause::KeyUnknown => {
            (format!("the store does not know this {key}"), format!("check the {key}: it comes from {key_from}"))
        }
        Cause::SecretWrong => (
            format!("the {secret} does not belong to this {key}"),
            format!("check the {secret}: it comes from {secret_from}"),
        ),
        Cause::LoginRefused => (
            format!("the store does not accept these credentials: {key} or {secret} is wrong"),
            format!("the {key} comes from {key_from}; the {secret} from {secret_from}"),
        ),
        Cause::Expired => (
            format!("the {secret} or the session that it was lent for has expired"),
            format!("get new ones, and give them by {secret_from}; a session token of S3 by PACKSTONE_MIRROR_SESSION_TOKEN"),
        ),
        Cause::Clock => (
            "the clock of this machine is wrong".to_owned(),
            "set the clock, and run the command again".to_owned(),
        ),
        Cause::Certificate => (
            "the certificate of the server was issued by nobody whom this system trusts".to_owned(),
            "if it is a CA of your own, name its certificate: --option ca_file=/PATH.pem. If it is not, somebody stands in between: does this \
             machine have to log in to the network first?"
                .to_owned(),
        ),
        Cause::CertificateName => (
            "the certificate of the server is one of another host".to_owned(),
            format!("check the host name in the address{endpoint}. Does this machine have to log in to the network first?"),
        ),
        Cause::CertificateTime => (
            "the certificate of the server is not valid now".to_owned(),
            "check the clock of this machine; if it is right, whoever runs the server has to renew the certificate".to_owned(),
        ),
        Cause::Tls => (
            "one side speaks TLS and the other one does not".to_owned(),
            format!("check http:// and https:// and the port in the address{endpoint}"),
        ),
        Cause::HostUnknown => (
            "there is no host of this name".to_owned(),
            format!("check the host name in the address{endpoint}, and the network of this machine"),
        ),
        Cause::ConnectionRefused => (
            "nobody listens there".to_owned(),
            "check host and port, and whether the server runs; then run the command again".to_owned(),
        ),
        Cause::NoNetwork => (
            "no way leads there".to_owned(),
            "check the network of this machine; then run the command again".to_owned(),
        ),
        Cause::Silent => (
            "no answer came".to_owned(),
            "the store may answer later: run the command again. If it never does, check host and port, and whether a firewall is in between".to_owned(),
        ),
        Cause::Busy => ("it is busy".to_owned(), "the store may answer later: run the command again".to_owned()),
        Cause::NoRight => {
            let needs = terms.needs(operation);
            let delete = match (operation, &place.name) {
                ("remove", Some(name)) => {
                    format!(". If it must not delete, that is fine: {}", suggest!("sync {} --no-delete", name))
                }
                _ => String::new(),
            };
            (
                "these credentials do not allow it".to_owned(),
                format!("it takes the right {needs}: look at {rights}{delete}"),
            )
        }
        Cause::HostKeyUnknown => (
            "the key of this server is not known here".to_owned(),
            "connect to it once with ssh, compare the fingerprint and accept it; or take what it shows now, and only that from then on: --option \
             known_hosts_strategy=accept-new"
                .to_owned(),
        ),
        Cause::HostKeyChanged => (
            "the server shows another key than the one that is known: it was set up again, or somebody stands in between".to_owned(),
            format!(
                "compare the fingerprint with whoever runs the server. If it is right, forget the old one: ssh-keygen -R {}",
                quote(known_as(place).as_bytes())
            ),
        ),
        Cause::KeyRefused => (
            "the server takes none of the keys that it was offered".to_owned(),
            "name the key's file: --option key=FILE, and check that its public half is in authorized_keys of the user there".to_owned(),
        ),
        Cause::KeyFile => {
            ("the key file cannot be read".to_owned(), "check the path in --option key=FILE".to_owned())
        }
        Cause::KeyLocked => (
            "the key file is protected by a passphrase".to_owned(),
            "give it to an agent first: ssh-add FILE; or use a key without one for unattended runs".to_owned(),
        ),
        Cause::Full if matches!(place.service().scheme, "sftp" | "webdav") => (
            "the server could not write it; mostly its disk is full, the share of this user used up, or the disk read-only".to_owned(),
            "look at the disk on the server; then run the command again: what has arrived stays".to_owned(),
        ),
        Cause::Full => (
            "there is no room left, or the share of this account is used up".to_owned(),
            "nothing of the repository here is touched. Make room there, or buy more; then run the command again: what has arrived stays".to_owned(),
        ),
        Cause::NoStore => (
            "what answered is no such store".to_owned(),
            format!(
                "does this machine have to log in to the network first? If not, check the host name in the address{endpoint}. Nothing is known of \
                 the mirror: do not accept another state of it because of this"
            ),
        ),
        Cause::Settings => (
            "its options cannot be used".to_owned(),
            format!("check the options in its address, and the {secret}, which comes from {secret_from}"),
        ),
        Cause::RoleRefused => (
            "AWS STS does not lend this role".to_owned(),
            "look at the trust policy of the role: it has to name whoever asks, and --option external_id=ID if it wants one. Keys also need the right \
             sts:AssumeRole. The role comes from --option role_arn=ARN, AWS_ROLE_ARN or the profile"
                .to_owned(),
        ),
        Cause::RoleToken => (
            "AWS STS does not accept the identity token".to_owned(),
            "let whoever writes the token write a new one, and check that issuer and audience are those of the identity provider in IAM. The file is named \
             by AWS_WEB_IDENTITY_TOKEN_FILE or web_identity_token_file in the profile"
                .to_owned(),
        ),
        Cause::RoleTokenFile => (
            "the file with the identity token cannot be read".to_owned(),
            "check the path in AWS_WEB_IDENTITY_TOKEN_FILE or web_identity_token_file in the profile".to_owned(),
        ),
        Cause::RoleService => (
            "AWS STS, which is to lend the role, cannot be asked or lent nothing".to_owned(),
            "check the region of the mirror, whose STS is asked, and the clock and the network of this machine. The certificate of STS has to be one that this \
             system trusts: the option ca_file is about the mirror only"
                .to_owned(),
        ),
        Cause::RoleSilent => (
            "AWS STS, which is to lend the role, does not answer".to_owned(),
            "run the command again. If it never answers, check the network of this machine: it has to reach that host by HTTPS".to_owned(),
        ),
        Cause::Proxy => (
            "the proxy wants to know who asks".to_owned(),
            "name user and password in HTTPS_PROXY, as in http://USER:PASSWORD@HOST:PORT, or except the store by NO_PROXY".to_owned(),
        ),
    };
    (why, next)
}

/// A host as `known_hosts` has it.
fn known_as(place: &MirrorPlace) -> String {
    let settings = place.address.settings();
    let host = settings.get("endpoint").map(|endpoint| endpoint.trim_start_matches("ssh://")).unwrap_or_default();
    match host.rsplit_once(':') {
        Some((host, port)) if port != "22" => format!("[{host}]:{port}"),
        _ => host.to_owned(),
    }
}

/// What a mirror is called in a sentence.
fn called(place: &MirrorPlace) -> String {
    place.name.as_ref().map_or_else(|| format!("the mirror {}", place.address), |name| format!("mirror {name}"))
}

/// How options are set anew.
fn about_options(next: &str, place: &MirrorPlace) -> Option<String> {
    let name = place.name.as_ref().filter(|_| place.is_listed && next.contains("--option "))?;
    Some(format!(
        "an option is given to mirror add, or stands in the address behind a question mark. To change it, take the mirror off the list first; its files \
         stay: {}",
        suggest!("mirror remove {}", name)
    ))
}

/// The failure of an operation at a mirror. None for what is no matter of the store: an end that somebody wanted, a shortage of this process.
pub(super) fn of_mirror(error: &storage::Error, place: &MirrorPlace) -> Option<Failure> {
    let mirror = called(place);
    if let Some(cause) = error.cause {
        let (why, next) = sentence(cause, error.operation, place);
        let words = unmarked(&error.source.to_string());
        // Of these the storage has said it all.
        let is_said = cause == Cause::Clock || words.starts_with("what answered is no");
        let why = if is_said { words } else { format!("{why} ({words})") };
        let message = format!("{}: {why}", tried(error, &mirror));
        let failure = Failure::new(kind_of(error.kind), message).of_mirror_named(place.name.as_deref());
        let options = about_options(&next, place).filter(|_| cause != Cause::NoStore);
        let failure = options.into_iter().fold(failure.remedy(next), Failure::remedy);
        return Some(if error.kind == ErrorKind::Unavailable { failure.transient() } else { failure });
    }
    let plain = || {
        let message = format!("{}: {}", tried(error, &mirror), unmarked(&error.source.to_string()));
        Failure::new(kind_of(error.kind), message).of_mirror_named(place.name.as_deref())
    };
    match error.kind {
        ErrorKind::Interrupted | ErrorKind::Shortage => None,
        ErrorKind::Unavailable => {
            Some(plain().remedy("the store may answer later: run the command again").transient())
        }
        ErrorKind::Denied | ErrorKind::Full => {
            let cause = if error.kind == ErrorKind::Full { Cause::Full } else { Cause::NoRight };
            Some(plain().remedy(sentence(cause, error.operation, place).1))
        }
        ErrorKind::Length | ErrorKind::NoFile => Some(plain().remedy(repair(place))),
        ErrorKind::Device | ErrorKind::Durability => Some(plain().remedy(format!(
            "the disk of {mirror}, or the file system on it, failed. Look at the kernel's log and at the disk's health; the repository here is untouched"
        ))),
        ErrorKind::Absent | ErrorKind::Refused | ErrorKind::Other => Some(plain()),
    }
}

/// What helps against damage on a mirror.
pub(super) fn repair(place: &MirrorPlace) -> String {
    match &place.name {
        Some(name) => repair_named(name),
        None => concat!(
            "the repository is not concerned. Where it is, with this mirror on its list, what is damaged here is replaced by: ",
            suggest!("repair mirror NAME")
        )
        .to_owned(),
    }
}

/// The same for one that is on the list.
pub(super) fn repair_named(name: &str) -> String {
    format!(
        "the repository here is not concerned. To replace what is damaged there: {}",
        suggest!("repair mirror {}", name)
    )
}

/// What is to be added to a sentence about several objects that failed at a mirror, the first of them because of this.
pub(super) fn remedy_behind(behind: &Behind) -> Option<String> {
    let (why, next) = sentence(behind.cause, behind.operation, behind.mirror.as_deref()?);
    Some(format!("{why}: {next}"))
}

fn kind_of(kind: ErrorKind) -> Kind {
    match kind {
        ErrorKind::Full => Kind::TargetFull,
        ErrorKind::Length | ErrorKind::NoFile => Kind::Damage,
        _ => Kind::Failed,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::storage::address::{Address, SERVICES};
    use std::io;
    use std::sync::Arc;

    const OPERATIONS: [&str; 6] = ["open", "list", "read", "write", "rename", "remove"];

    fn place(scheme: &str, name: Option<&str>) -> MirrorPlace {
        let address = match scheme {
            "fs" => "/srv/m".to_owned(),
            "gdrive" => "gdrive://m".to_owned(),
            "sftp" => "sftp://me@host:2222/m".to_owned(),
            scheme => format!("{scheme}://place/m"),
        };
        MirrorPlace { name: name.map(str::to_owned), address: Address::parse(&address, &[]).unwrap(), is_listed: true }
    }

    fn failure(scheme: &str, cause: Option<Cause>, operation: &'static str, kind: ErrorKind) -> Failure {
        let error = storage::Error::new(operation, "packs/07", io::Error::other("ITS WORDS")).with_kind(kind);
        let error = error.with_cause(cause).at_mirror(&Arc::new(place(scheme, Some("off-site"))));
        Failure::from(crate::repository::Error::from(error))
    }

    fn text(failure: &Failure) -> String {
        let remedies: Vec<&str> = failure.remedies().iter().map(super::super::remedy::Remedy::marked).collect();
        format!("{}\n{}", failure.chain(), remedies.join("\n"))
    }

    /// Every service, every cause, everything that is tried.
    #[test]
    fn each_cell_names_the_mirror_what_was_tried_and_what_to_do() {
        for service in SERVICES {
            for cause in Cause::ALL {
                for operation in OPERATIONS {
                    let kind = if cause.may_pass() { ErrorKind::Unavailable } else { ErrorKind::Denied };
                    let failure = failure(service.scheme, Some(cause), operation, kind);
                    let said = text(&failure);
                    let cell = format!("{} {cause:?} {operation}: {said}", service.scheme);
                    assert!(said.contains("mirror off-site") && said.contains("ITS WORDS"), "{cell}");
                    let is_named = ["open", "list"].contains(&operation) || said.contains("packs/07");
                    assert!(is_named && !failure.remedies().is_empty(), "{cell}");
                    assert!(!said.contains("repository's directory") && !said.contains("mirror accept"), "{cell}");
                    assert_eq!(failure.is_transient(), cause.may_pass(), "{cell}");
                    assert!(!said.contains("  ") && !said.contains(". ."), "{cell}");
                }
            }
        }
    }

    /// The cells that name a variable, an option or a command.
    #[test]
    fn the_variable_or_the_option_is_named() {
        for (scheme, cause, operation, expected) in [
            (
                "s3",
                Cause::SecretWrong,
                "list",
                "PACKSTONE_MIRROR_OFF_SITE_SECRET_ACCESS_KEY, AWS_SECRET_ACCESS_KEY or the profile",
            ),
            ("s3", Cause::KeyUnknown, "list", "--option access_key_id=ID"),
            ("s3", Cause::Region, "list", "--option region=REGION"),
            ("s3", Cause::NoRight, "list", "s3:ListBucket"),
            ("s3", Cause::NoRight, "read", "s3:GetObject"),
            ("s3", Cause::NoRight, "write", "s3:PutObject"),
            ("s3", Cause::NoRight, "remove", "sync off-site --no-delete"),
            ("s3", Cause::NoPlace, "list", "no such bucket"),
            ("s3", Cause::Certificate, "list", "--option ca_file="),
            (
                "azblob",
                Cause::SecretWrong,
                "list",
                "PACKSTONE_MIRROR_OFF_SITE_ACCOUNT_KEY, PACKSTONE_MIRROR_OFF_SITE_SAS_TOKEN",
            ),
            ("azblob", Cause::KeyUnknown, "list", "--option account_name=NAME"),
            ("azblob", Cause::NoPlace, "write", "no such container"),
            ("gcs", Cause::NoCredentials, "list", "GOOGLE_APPLICATION_CREDENTIALS"),
            ("b2", Cause::LoginRefused, "list", "PACKSTONE_MIRROR_OFF_SITE_APPLICATION_KEY"),
            ("gdrive", Cause::Expired, "list", "PACKSTONE_MIRROR_OFF_SITE_ACCESS_TOKEN"),
            ("webdav", Cause::LoginRefused, "list", "PACKSTONE_MIRROR_OFF_SITE_PASSWORD"),
            ("webdav", Cause::LoginRefused, "list", "--option username=USER"),
            ("webdav", Cause::NoStore, "list", "log in to the network first"),
            ("sftp", Cause::HostKeyUnknown, "list", "known_hosts_strategy=accept-new"),
            ("sftp", Cause::HostKeyChanged, "list", "ssh-keygen -R '[host]:2222'"),
            ("sftp", Cause::KeyRefused, "list", "--option key=FILE"),
            ("sftp", Cause::KeyLocked, "list", "ssh-add"),
            ("fs", Cause::NoRight, "write", "who owns the mirror's directory"),
        ] {
            let said = text(&failure(scheme, Some(cause), operation, ErrorKind::Denied));
            assert!(said.contains(expected), "{scheme} {cause:?} {operation}: {said}");
        }
    }

    #[test]
    fn what_has_no_cause_is_about_the_mirror_too() {
        let said = |kind| text(&failure("s3", None, "read", kind));
        assert!(said(ErrorKind::Length).contains("repair mirror off-site"), "{}", said(ErrorKind::Length));
        assert!(said(ErrorKind::Denied).contains("s3:GetObject"));
        assert!(said(ErrorKind::Unavailable).contains("run the command again"));
        for kind in [ErrorKind::Full, ErrorKind::Device, ErrorKind::Refused, ErrorKind::Absent, ErrorKind::NoFile] {
            let said = said(kind);
            assert!(said.contains("mirror off-site") && !said.contains("repository's directory"), "{said}");
        }
        // What befalls this process is no matter of the mirror.
        assert_eq!(failure("s3", None, "read", ErrorKind::Interrupted).kind(), Kind::Interrupted);
        // One that is on no list is called by its address.
        let error = storage::Error::new("list", ".", io::Error::other("x")).with_cause(Some(Cause::NoPlace));
        let failure = of_mirror(&error, &place("s3", None)).unwrap();
        assert!(failure.chain().starts_with("the mirror s3://place/m cannot be listed: there is no such bucket"));
    }
}
