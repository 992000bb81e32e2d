//! What a machine that has nothing needs to reach a mirror: the address, with what this machine's environment adds to it, and a line for each value that
//! an address does not hold.
//!
//! Where a value comes from on this machine makes no difference: what is secret becomes a line to be filled in by hand, and what is not is printed where
//! it is known. Credentials that last for hours (session and access tokens) are not asked for: they are over when the page is needed.

use crate::base::escape::escape;
use crate::storage::address::Address;
use crate::tasks::environment::user_command::user_command;
use std::process::Stdio;

/// A line of the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    /// A variable whose value is known and not secret.
    Value(String, String),
    /// A variable whose value is to be filled in by hand.
    Blank(String),
    /// The line before and the line after: one of them is enough.
    Or,
    /// A sentence.
    Note(String),
    /// A command.
    Command(String),
}

/// What reaches a mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Needs {
    /// Its address, for another machine: without paths of this one.
    pub address: String,
    /// The lines, in order.
    pub lines: Vec<Line>,
}

/// Variables of a cloud's own tools that say what is not secret, by option. OpenDAL reads them.
const OF_CLOUDS: [(&str, &str, &[&str]); 3] = [
    ("s3", "region", &["AWS_REGION", "AWS_DEFAULT_REGION"]),
    ("s3", "endpoint", &["AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AWS_S3_ENDPOINT"]),
    ("s3", "access_key_id", &["AWS_ACCESS_KEY_ID"]),
];

/// The variable that holds a value of a mirror's service.
fn variable(mirror: &str, key: &str) -> String {
    format!("PACKSTONE_MIRROR_{}_{}", mirror.to_uppercase().replace('-', "_"), key.to_uppercase())
}

/// What is known and asked for while the lines are made.
struct Making<'a> {
    mirror: &'a str,
    address: Address,
    /// A value that this program was given for the mirror.
    given: &'a dyn Fn(&str) -> Option<String>,
    /// A variable of the environment.
    environment: &'a dyn Fn(&str) -> Option<String>,
    lines: Vec<Line>,
}

impl Making<'_> {
    fn option(&self, key: &str) -> Option<String> {
        self.address.settings().get(key).filter(|value| !value.is_empty()).cloned()
    }

    fn is_on(&self, key: &str) -> bool {
        self.option(key).is_some_and(|value| value == "true")
    }

    /// What is known of a value that is not secret.
    fn known(&self, key: &str) -> Option<String> {
        let scheme = self.address.service().scheme;
        let names = OF_CLOUDS.iter().find(|(of, option, _)| *of == scheme && *option == key).map(|(.., names)| *names);
        let names = names.filter(|_| !self.is_on("disable_config_load") || key != "access_key_id").unwrap_or_default();
        (self.given)(key).or_else(|| names.iter().find_map(|name| (self.environment)(name))).filter(|it| !it.is_empty())
    }

    /// A value that is not secret: in the address, known, or to be filled in.
    fn plain(&mut self, key: &str) {
        if self.option(key).is_none() {
            let variable = variable(self.mirror, key);
            self.lines.push(match self.known(key) {
                Some(value) => Line::Value(variable, value),
                None => Line::Blank(variable),
            });
        }
    }

    /// The same where nobody needs it who does not know it.
    fn plain_if_known(&mut self, key: &str) {
        if self.known(key).is_some() {
            self.plain(key);
        }
    }

    fn secret(&mut self, key: &str) {
        self.lines.push(Line::Blank(variable(self.mirror, key)));
    }

    /// One of several secrets: the one that is given here, or whichever there is.
    fn one_of(&mut self, keys: &[&str]) {
        let given: Vec<&str> = keys.iter().copied().filter(|key| (self.given)(key).is_some()).collect();
        for (number, key) in if given.is_empty() { keys } else { &given }.iter().enumerate() {
            if number > 0 {
                self.lines.push(Line::Or);
            }
            self.secret(key);
        }
    }

    fn note(&mut self, text: impl Into<String>) {
        self.lines.push(Line::Note(text.into()));
    }

    /// A file of this machine that an option names: the new machine has it at another path.
    fn file(&mut self, key: &str, what: &str) {
        let path = self.option(key).or_else(|| (self.given)(key));
        self.drop_option(key);
        let where_it_is = path.map_or_else(String::new, |path| format!(", here {}", escape(path.as_bytes())));
        self.note(format!("{what}{where_it_is}: keep a copy with this page. Its path on the new machine:"));
        self.secret(key);
    }

    fn drop_option(&mut self, key: &str) {
        let text = self.address.to_string();
        let Some((place, options)) = text.split_once('?') else { return };
        let begins = format!("{key}=");
        let left: Vec<&str> = options.split('&').filter(|option| !option.starts_with(&begins)).collect();
        let text = if left.is_empty() { place.to_owned() } else { format!("{place}?{}", left.join("&")) };
        if let Ok(address) = Address::parse(&text, &[]) {
            self.address = address;
        }
    }
}

/// What reaches `mirror`. `given` are values that this program was given for it, `environment` reads a variable.
pub(super) fn find(
    mirror: &str,
    address: Address,
    given: &dyn Fn(&str) -> Option<String>,
    environment: &dyn Fn(&str) -> Option<String>,
    host_keys: &dyn Fn(&str) -> Vec<String>,
) -> Needs {
    let mut making = Making { mirror, address, given, environment, lines: Vec::new() };
    let scheme = making.address.service().scheme;
    match scheme {
        "s3" => {
            making.plain("region");
            making.plain_if_known("endpoint");
            if !making.is_on("skip_signature") {
                making.plain("access_key_id");
                making.secret("secret_access_key");
            }
            if (making.environment)("AWS_WEB_IDENTITY_TOKEN_FILE").is_some()
                && (making.given)("secret_access_key").is_none()
            {
                making.note(
                    "This machine has no key: AWS lends it a role for its identity token, which another machine has not. Fill in a key that lasts.",
                );
            }
            if (making.given)("session_token").is_some() || (making.environment)("AWS_SESSION_TOKEN").is_some() {
                making.note(
                    "The credentials that this machine uses end soon (a session token). Fill in a key that lasts.",
                );
            }
        }
        "azblob" => {
            making.plain("endpoint");
            making.plain("account_name");
            making.one_of(&["account_key", "sas_token"]);
        }
        "gcs" => {
            making.plain_if_known("endpoint");
            if !making.is_on("skip_signature") {
                making.file("credential_path", "The key file (JSON) of a service account");
            }
        }
        "b2" => {
            making.plain("bucket_id");
            making.plain("application_key_id");
            making.secret("application_key");
        }
        "gdrive" => {
            making.plain("client_id");
            making.secret("client_secret");
            making.secret("refresh_token");
        }
        "webdav" => {
            making.plain("username");
            making.one_of(&["password", "token"]);
        }
        "sftp" => sftp(&mut making, host_keys),
        // A directory.
        _ => making.note("A directory: mount the disk that it is on where it was, or write its new path."),
    }
    Needs { address: making.address.to_string(), lines: making.lines }
}

fn sftp(making: &mut Making<'_>, host_keys: &dyn Fn(&str) -> Vec<String>) {
    making.plain("user");
    making.file("key", "The private key file for ssh");
    let strategy = making.option("known_hosts_strategy").unwrap_or_default();
    let settings = making.address.settings();
    let host =
        settings.get("endpoint").map(|endpoint| endpoint.trim_start_matches("ssh://").to_owned()).unwrap_or_default();
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            (name.to_owned(), Some(port.to_owned()))
        }
        _ => (host.clone(), None),
    };
    let known = port.as_ref().map_or_else(|| name.clone(), |port| format!("[{name}]:{port}"));
    for key in host_keys(&known) {
        making.note(format!("The host's key: {}", escape(key.as_bytes())));
    }
    if !matches!(strategy.as_str(), "Accept" | "Add") {
        making.note("Make the host known first: ssh shows its key and asks; answer yes when it is the right one.");
        let port = port.map_or_else(String::new, |port| format!("-p {port} "));
        let key = variable(making.mirror, "key");
        let user = match settings.get("user") {
            Some(user) => format!("{user}@"),
            None => format!("\"${}\"@", variable(making.mirror, "user")),
        };
        making.lines.push(Line::Command(format!("ssh {port}-i \"${key}\" {user}{name} exit")));
    }
}

/// The keys of a host that this machine knows, as ssh shows them: the fingerprint of each, with its kind. None without OpenSSH, or for a host that it does
/// not know.
pub(super) fn host_keys(host: &str) -> Vec<String> {
    let asked = user_command("ssh-keygen")
        .args(["-l", "-F", host])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .output();
    let Ok(answer) = asked else { return Vec::new() };
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    // "HOST ED25519 SHA256:...", behind a line that begins with "#".
    let keys = text.lines().filter(|line| !line.starts_with('#'));
    let key = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let hash = words.iter().position(|word| word.starts_with("SHA256:"))?;
        Some(format!("{} {}", words.get(hash.checked_sub(1)?)?, words.get(hash)?))
    };
    keys.filter_map(key).take(5).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn found(address: &str, given: &[(&str, &str)], environment: &[(&str, &str)]) -> (String, Vec<String>) {
        let get = |all: &[(&str, &str)], key: &str| {
            all.iter().find(|(name, _)| *name == key).map(|(_, value)| (*value).to_owned())
        };
        let address = Address::parse(address, &[]).unwrap();
        let keys = |host: &str| vec![format!("ED25519 SHA256:of-{host}")];
        let needs = find("my-nas", address, &|key| get(given, key), &|key| get(environment, key), &keys);
        let lines = needs.lines.into_iter().map(|line| match line {
            Line::Value(name, value) => format!("{}={value}", name.replace("PACKSTONE_MIRROR_MY_NAS_", "")),
            Line::Blank(name) => format!("{}=__", name.replace("PACKSTONE_MIRROR_MY_NAS_", "")),
            Line::Or => "or".to_owned(),
            Line::Note(text) => text.split([',', ':', '.']).next().unwrap_or_default().to_owned(),
            Line::Command(text) => text,
        });
        (needs.address, lines.collect())
    }

    #[test]
    fn every_service_has_a_line_for_what_its_address_does_not_hold() {
        let aws: &[(&str, &str)] = &[
            ("AWS_ACCESS_KEY_ID", "AK"),
            ("AWS_SECRET_ACCESS_KEY", "a secret"),
            ("AWS_REGION", "eu-1"),
            ("AWS_ENDPOINT_URL", "https://h"),
        ];
        let file = "A directory";
        let key = "The private key file for ssh";
        type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [(&'a str, &'a str)], &'a [&'a str]);
        let cases: &[Case<'_>] = &[
            ("s3://b/p", &[], &[], &["REGION=__", "ACCESS_KEY_ID=__", "SECRET_ACCESS_KEY=__"]),
            (
                "s3://b/p",
                &[("secret_access_key", "a secret")],
                aws,
                &["REGION=eu-1", "ENDPOINT=https://h", "ACCESS_KEY_ID=AK", "SECRET_ACCESS_KEY=__"],
            ),
            ("s3://b?region=r&access_key_id=A&endpoint=https://e", &[], aws, &["SECRET_ACCESS_KEY=__"]),
            // What is not read from there here is another account's.
            (
                "s3://b?region=r&disable_config_load=true",
                &[],
                aws,
                &["ENDPOINT=https://h", "ACCESS_KEY_ID=__", "SECRET_ACCESS_KEY=__"],
            ),
            ("s3://b?region=r&skip_signature=true", &[], &[], &[]),
            (
                "s3://b?region=r&access_key_id=A",
                &[("session_token", "x")],
                &[],
                &["SECRET_ACCESS_KEY=__", "The credentials that this machine uses end soon (a session token)"],
            ),
            (
                "s3://b?region=r",
                &[],
                &[("AWS_WEB_IDENTITY_TOKEN_FILE", "/t"), ("AWS_ROLE_ARN", "R")],
                &["ACCESS_KEY_ID=__", "SECRET_ACCESS_KEY=__", "This machine has no key"],
            ),
            ("azblob://c?endpoint=https://e", &[], &[], &["ACCOUNT_NAME=__", "ACCOUNT_KEY=__", "or", "SAS_TOKEN=__"]),
            ("azblob://c?endpoint=https://e&account_name=n", &[("sas_token", "a secret")], &[], &["SAS_TOKEN=__"]),
            ("gcs://b", &[], &[], &["The key file (JSON) of a service account", "CREDENTIAL_PATH=__"]),
            ("b2://b/p", &[], &[], &["BUCKET_ID=__", "APPLICATION_KEY_ID=__", "APPLICATION_KEY=__"]),
            (
                "b2://b?bucket_id=1",
                &[("application_key_id", "K")],
                &[],
                &["APPLICATION_KEY_ID=K", "APPLICATION_KEY=__"],
            ),
            ("gdrive://p", &[], &[], &["CLIENT_ID=__", "CLIENT_SECRET=__", "REFRESH_TOKEN=__"]),
            ("webdav://h/p", &[], &[], &["USERNAME=__", "PASSWORD=__", "or", "TOKEN=__"]),
            ("webdav://h/p?username=u", &[("password", "a secret")], &[], &["PASSWORD=__"]),
            (
                "sftp://u@h:22/p?key=/keys/id",
                &[],
                &[],
                &[
                    key,
                    "KEY=__",
                    "The host's key",
                    "Make the host known first",
                    "ssh -p 22 -i \"$PACKSTONE_MIRROR_MY_NAS_KEY\" u@h exit",
                ],
            ),
            ("sftp://h/p?known_hosts_strategy=Add", &[], &[], &["USER=__", key, "KEY=__", "The host's key"]),
            ("/mnt/disk", &[], &[], &[file]),
        ];
        for (address, given, environment, expected) in cases {
            let (_, lines) = found(address, given, environment);
            assert_eq!(lines, *expected, "{address}");
            assert!(!lines.iter().any(|line| line.contains("a secret")), "{lines:?}");
        }
    }

    #[test]
    fn an_address_for_another_machine_has_no_paths_of_this_one() {
        for (address, expected) in [
            ("sftp://u@h/p?key=/keys/id", "sftp://u@h/p"),
            ("sftp://u@h/p?key=/keys/id&known_hosts_strategy=Add", "sftp://u@h/p?known_hosts_strategy=Add"),
            ("gcs://b?credential_path=/c&endpoint=https%3A%2F%2Fe", "gcs://b?endpoint=https%3A%2F%2Fe"),
            ("s3://b/p?region=r", "s3://b/p?region=r"),
        ] {
            assert_eq!(found(address, &[], &[]).0, expected);
        }
    }
}
