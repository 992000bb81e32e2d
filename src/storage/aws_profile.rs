//! What a profile in the files of AWS says about a store: `~/.aws/config` and `~/.aws/credentials`, or the files that `AWS_CONFIG_FILE` and
//! `AWS_SHARED_CREDENTIALS_FILE` name.
//!
//! OpenDAL reads keys from them, and nothing else. So region, endpoint, `credential_process` and roles are read here, in the order of AWS's own
//! tools: an option of the mirror counts before a variable, and that before a file. The command is not run here, and no role is taken.
//!
//! Where keys are given by the mirror's own secrets or by variables, no role of a profile counts. Otherwise a profile with `role_arn` says what
//! the role is taken with: the keys or the command of another profile (`source_profile`), which may have a role itself; what the environment or the
//! machine has (`credential_source`); or a token (`web_identity_token_file`). What a person would have to type each time is refused (`mfa_serial`).

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::base::escape::escape;

/// Bytes of such a file, at most.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What the files say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile {
    /// Where the store is, and in which region.
    pub settings: BTreeMap<String, String>,
    /// Prints credentials; only where nothing else gives any.
    pub credential_process: Option<String>,
    /// The keys of another profile, with which the first role is taken.
    pub keys: Option<Keys>,
    /// What AWS STS is to lend.
    pub roles: Roles,
}

/// Keys as a file has them. They are not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// The key id.
    pub id: String,
    /// The secret key.
    pub secret: String,
    /// The token of a session, where it is one.
    pub session_token: Option<String>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

/// Whose credentials AWS STS is to lend, besides a role that the mirror's own options name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roles {
    /// The first role is taken with a token.
    pub web_identity: Option<WebIdentity>,
    /// The profile that has what the first role is taken with, where that is no key.
    pub source_profile: Option<String>,
    /// Roles that are taken one after the other, each with what the one before has.
    pub taken: Vec<Role>,
}

/// A role of AWS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Role {
    /// `arn:aws:iam::ACCOUNT:role/NAME`.
    pub arn: String,
    /// What the role's policy may ask for.
    pub external_id: Option<String>,
    /// What the session is called in the records of AWS.
    pub session_name: Option<String>,
}

/// A role that is taken with the token of another identity provider: of Kubernetes, of GitHub.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WebIdentity {
    /// The role.
    pub role: Role,
    /// Where the token is. Whoever writes it writes a new one before it ends.
    pub token_file: PathBuf,
}

/// Where `credential_source` may say that credentials are.
const SOURCES: [&str; 3] = ["Environment", "Ec2InstanceMetadata", "EcsContainer"];
/// Roles behind one another in profiles, at most.
const ROLES_MAX: usize = 5;

/// The sections of a file, each with its keys in small letters. Of nested ones (`s3 =`, and lines that are indented below it) the keys have the name of
/// what they are in before them: `s3.endpoint_url`.
type Sections = BTreeMap<String, BTreeMap<String, String>>;

fn parse(text: &str) -> Sections {
    let mut sections = Sections::new();
    let (mut section, mut outer) = (String::new(), String::new());
    for line in text.trim_start_matches('\u{feff}').lines() {
        let plain = line.trim();
        if plain.is_empty() || plain.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = plain.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            section = name.split_whitespace().collect::<Vec<_>>().join(" ");
            outer.clear();
            sections.entry(section.clone()).or_default();
            continue;
        }
        let Some((key, value)) = plain.split_once('=') else { continue };
        let key = key.trim().to_ascii_lowercase();
        // A comment begins behind a space.
        let value = [" #", " ;"].iter().filter_map(|mark| value.find(mark)).min().map_or(value, |at| &value[..at]);
        let key = match line.starts_with(char::is_whitespace) && !outer.is_empty() {
            true => format!("{outer}.{key}"),
            false => {
                outer.clone_from(&key);
                key
            }
        };
        sections.entry(section.clone()).or_default().insert(key, value.trim().to_owned());
    }
    sections
}

/// Where the files are.
struct Files {
    config: Option<PathBuf>,
    credentials: Option<PathBuf>,
}

impl Files {
    fn of(variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let home = variable("HOME").map(PathBuf::from);
        let at = |name: &str, default: &str| match variable(name).filter(|path| !path.is_empty()) {
            Some(path) => Some(match (path.strip_prefix("~/"), &home) {
                (Some(rest), Some(home)) => home.join(rest),
                _ => PathBuf::from(path),
            }),
            None => home.as_ref().map(|home| home.join(default)),
        };
        Self {
            config: at("AWS_CONFIG_FILE", ".aws/config"),
            credentials: at("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"),
        }
    }
}

/// What is in a file; nothing where there is none.
fn read(path: Option<&Path>) -> Result<Sections, String> {
    let Some(path) = path else { return Ok(Sections::new()) };
    let shown = || escape(path.as_os_str().as_encoded_bytes());
    match path.metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Sections::new()),
        Ok(found) if found.len() > FILE_BYTES_MAX => {
            return Err(format!("{} is too long for a file of profiles", shown()));
        }
        _ => {}
    }
    match std::fs::read(path) {
        Ok(bytes) => Ok(parse(&String::from_utf8_lossy(&bytes))),
        Err(error) => Err(format!("{} cannot be read: {error}", shown())),
    }
}

/// What the files say for a store of S3 with these settings, in the environment that `variable` reads. A setting that is there is not in the answer.
///
/// # Errors
/// A sentence: when a file is there and cannot be read, or a profile was named and is in neither of them.
pub fn look_up(
    settings: &BTreeMap<String, String>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Profile, String> {
    if settings.get("disable_config_load").is_some_and(|value| value == "true") {
        return Ok(Profile::default());
    }
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
    let named = settings.get("profile").filter(|name| !name.is_empty()).cloned().or_else(|| variable("AWS_PROFILE"));
    let name = named.clone().unwrap_or_else(|| "default".to_owned());
    let files = Files::of(&variable);
    let (config, credentials) = (read(files.config.as_deref())?, read(files.credentials.as_deref())?);
    let section = if name == "default" { name.clone() } else { format!("profile {name}") };
    let (in_config, keys) = (config.get(&section), credentials.get(&name));
    if let Some(named) = named.filter(|_| in_config.is_none() && keys.is_none()) {
        let shown = |path: &Option<PathBuf>| path.as_ref().map(|path| escape(path.as_os_str().as_encoded_bytes()));
        let places: Vec<String> = [shown(&files.config), shown(&files.credentials)].into_iter().flatten().collect();
        return Err(format!("there is no profile {} in {}", escape(named.as_bytes()), places.join(" and ")));
    }
    let of = |key: &str| in_config.and_then(|section| section.get(key)).or_else(|| keys?.get(key)).cloned();
    let mut found = Profile::default();
    let is_set = |key: &str| settings.get(key).is_some_and(|value| !value.is_empty());
    let mut put = |key: &str, variables: &[&str], value: Option<String>| {
        // OpenDAL reads some of these variables itself, and the files never.
        if let Some(value) = variables.iter().find_map(|name| variable(name)).or(value).filter(|_| !is_set(key)) {
            found.settings.insert(key.to_owned(), value);
        }
    };
    put("region", &["AWS_REGION", "AWS_DEFAULT_REGION"], of("region"));
    let services =
        of("services").and_then(|name| config.get(&format!("services {name}"))?.get("s3.endpoint_url").cloned());
    let endpoint = of("s3.endpoint_url").or(services).or_else(|| of("endpoint_url"));
    let is_ignored = variable("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS").or_else(|| of("ignore_configured_endpoint_urls"));
    let endpoint = endpoint.filter(|_| is_ignored.is_none_or(|is_ignored| is_ignored != "true"));
    put("endpoint", &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AWS_S3_ENDPOINT"], endpoint);
    let is_given = settings.contains_key("secret_access_key")
        || settings.get("skip_signature").is_some_and(|value| value == "true")
        || variable("AWS_ACCESS_KEY_ID").is_some();
    if is_given {
        return Ok(found);
    }
    let profiles = Profiles { config: &config, credentials: &credentials };
    if of("role_arn").is_some() {
        profiles.take_roles(&name, &variable, &mut found)?;
    } else if of("aws_access_key_id").is_none() {
        found.roles.web_identity = web_identity(&variable)?;
        found.credential_process = of("credential_process").filter(|_| found.roles.web_identity.is_none());
    }
    Ok(found)
}

/// What variables say of a token: EKS sets them.
fn web_identity(variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<WebIdentity>, String> {
    let Some(file) = variable("AWS_WEB_IDENTITY_TOKEN_FILE") else { return Ok(None) };
    let arn = variable("AWS_ROLE_ARN")
        .ok_or("AWS_WEB_IDENTITY_TOKEN_FILE is set, and AWS_ROLE_ARN is not: a token is of use for a role only")?;
    let role = Role { arn, session_name: variable("AWS_ROLE_SESSION_NAME"), external_id: None };
    Ok(Some(WebIdentity { role, token_file: PathBuf::from(file) }))
}

/// What both files say.
struct Profiles<'a> {
    config: &'a Sections,
    credentials: &'a Sections,
}

impl Profiles<'_> {
    fn of(&self, profile: &str, key: &str) -> Option<String> {
        let section = if profile == "default" { profile.to_owned() } else { format!("profile {profile}") };
        let value = |sections: &Sections, section: &str| sections.get(section)?.get(key).cloned();
        value(self.config, &section).or_else(|| value(self.credentials, profile)).filter(|value| !value.is_empty())
    }

    fn has(&self, profile: &str) -> bool {
        let section = if profile == "default" { profile.to_owned() } else { format!("profile {profile}") };
        self.config.contains_key(&section) || self.credentials.contains_key(profile)
    }

    /// Keys count in the file that is for them first.
    fn keys(&self, profile: &str) -> Option<Keys> {
        let value = |key: &str| {
            self.credentials.get(profile).and_then(|keys| keys.get(key)).cloned().or_else(|| self.of(profile, key))
        };
        let (id, secret) = (value("aws_access_key_id")?, value("aws_secret_access_key")?);
        Some(Keys { id, secret, session_token: value("aws_session_token") })
    }

    /// The roles of a profile, and what the first of them is taken with.
    fn take_roles(
        &self,
        name: &str,
        variable: &dyn Fn(&str) -> Option<String>,
        found: &mut Profile,
    ) -> Result<(), String> {
        let (mut profile, mut taken) = (name.to_owned(), Vec::new());
        let shown = |profile: &str| escape(profile.as_bytes());
        loop {
            // A profile that names itself has the keys for its role.
            let is_itself = self.of(&profile, "source_profile").is_some_and(|source| source == profile);
            let arn = self.of(&profile, "role_arn").filter(|_| !is_itself || taken.is_empty());
            let Some(arn) = arn else {
                found.keys = self.keys(&profile);
                found.credential_process = self.of(&profile, "credential_process").filter(|_| found.keys.is_none());
                found.roles.source_profile = Some(profile);
                break;
            };
            if self.of(&profile, "mfa_serial").is_some() {
                return Err(format!(
                    "profile {} asks for a code that is typed each time (mfa_serial), which an unattended run cannot do",
                    shown(&profile)
                ));
            }
            let session_name = self.of(&profile, "role_session_name");
            let role = Role { arn, external_id: self.of(&profile, "external_id"), session_name };
            if let Some(file) = self.of(&profile, "web_identity_token_file") {
                let home = variable("HOME").map(PathBuf::from);
                let token_file = match (file.strip_prefix("~/"), home) {
                    (Some(rest), Some(home)) => home.join(rest),
                    _ => PathBuf::from(file),
                };
                found.roles.web_identity = Some(WebIdentity { role, token_file });
                break;
            }
            taken.push(role);
            if taken.len() > ROLES_MAX {
                return Err(format!(
                    "profile {} takes more than {ROLES_MAX} roles one after the other, or goes in a circle",
                    shown(name)
                ));
            }
            if is_itself {
                found.keys = self.keys(&profile);
                if found.keys.is_none() {
                    return Err(format!(
                        "profile {} takes its role with keys of its own, and has none",
                        shown(&profile)
                    ));
                }
                break;
            }
            match (self.of(&profile, "source_profile"), self.of(&profile, "credential_source")) {
                (Some(source), _) if self.has(&source) => profile = source,
                (Some(source), _) => {
                    return Err(format!(
                        "profile {} takes its role with profile {}, and there is none",
                        shown(&profile),
                        shown(&source)
                    ));
                }
                (None, Some(source)) if SOURCES.contains(&source.as_str()) => {
                    // The environment, a container, or a machine.
                    break;
                }
                _ => {
                    return Err(format!(
                        "profile {} has role_arn, and does not say what the role is taken with: source_profile, credential_source or \
                         web_identity_token_file",
                        shown(&profile)
                    ));
                }
            }
        }
        taken.reverse();
        found.roles.taken = taken;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const CONFIG: &str = "\u{feff}# of a person\n[default]\nregion = eu-1 # near\n\n[profile  work]\nREGION=eu-2\nendpoint_url = https://all\n\
        credential_process = /bin/vault get 'a b'\n[profile nas]\nservices = local\n[services local]\ns3 =\n  endpoint_url = http://nas:9000\n\
        dynamodb =\n  endpoint_url = http://other\n[profile keys]\naws_access_key_id = A\naws_secret_access_key = B\ncredential_process = x\nregion=eu-3\n";
    const CREDENTIALS: &str = "[work]\n[old]\naws_access_key_id = A\naws_secret_access_key = B\nregion = eu-4\n";

    fn look(options: &[(&str, &str)], variables: &[(&str, &str)]) -> Result<Profile, String> {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".aws")).unwrap();
        std::fs::write(home.path().join(".aws/config"), CONFIG).unwrap();
        std::fs::write(home.path().join(".aws/credentials"), CREDENTIALS).unwrap();
        std::fs::write(home.path().join("other"), "[default]\nregion = moon-1\n").unwrap();
        let settings = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let variable = |name: &str| match name {
            "HOME" => home.path().to_str().map(str::to_owned),
            name => variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()),
        };
        look_up(&settings, &variable)
    }

    fn settings(options: &[(&str, &str)], variables: &[(&str, &str)]) -> String {
        let found = look(options, variables).unwrap();
        let pairs: Vec<String> = found.settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let process = found.credential_process.map(|command| format!("process={command}"));
        pairs.into_iter().chain(process).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn an_option_counts_before_a_variable_and_that_before_a_file() {
        for (options, variables, expected) in [
            (&[][..], &[][..], "region=eu-1"),
            (&[("region", "x")], &[("AWS_REGION", "y")], ""),
            (&[], &[("AWS_REGION", "y")], "region=y"),
            (&[], &[("AWS_DEFAULT_REGION", "z"), ("AWS_REGION", "")], "region=z"),
            (&[("profile", "work")], &[], "endpoint=https://all region=eu-2 process=/bin/vault get 'a b'"),
            (&[], &[("AWS_PROFILE", "work")], "endpoint=https://all region=eu-2 process=/bin/vault get 'a b'"),
            (&[("profile", "nas")], &[("AWS_PROFILE", "work")], "endpoint=http://nas:9000"),
            (&[("profile", "nas"), ("endpoint", "http://e")], &[], ""),
            (&[("profile", "nas")], &[("AWS_ENDPOINT_URL_S3", "http://v")], "endpoint=http://v"),
            (&[("profile", "nas")], &[("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")], ""),
            (&[("profile", "keys")], &[], "region=eu-3"),
            (&[("profile", "old")], &[], "region=eu-4"),
            (&[("profile", "work"), ("secret_access_key", "S")], &[], "endpoint=https://all region=eu-2"),
            (&[("profile", "work")], &[("AWS_ACCESS_KEY_ID", "A")], "endpoint=https://all region=eu-2"),
            (
                &[("profile", "work")],
                &[("AWS_WEB_IDENTITY_TOKEN_FILE", "/t"), ("AWS_ROLE_ARN", "R")],
                "endpoint=https://all region=eu-2",
            ),
            (&[("profile", "work"), ("disable_config_load", "true")], &[], ""),
            (&[], &[("AWS_CONFIG_FILE", "~/other")], "region=moon-1"),
            (&[], &[("AWS_CONFIG_FILE", "/no/such/file")], ""),
        ] {
            assert_eq!(settings(options, variables), expected, "{options:?} {variables:?}");
        }
    }

    const ROLES: &str = "[profile base]\naws_access_key_id = A\naws_secret_access_key = B\n[profile command]\ncredential_process = x\n\
        [profile role]\nrole_arn = R\nsource_profile = base\nexternal_id = E\nrole_session_name = S\n[profile both]\nrole_arn = Q\nsource_profile = role\n\
        [profile itself]\nrole_arn = R\nsource_profile = itself\naws_access_key_id = A\naws_secret_access_key = B\n\
        [profile by-command]\nrole_arn = R\nsource_profile = command\n[profile machine]\nrole_arn = R\ncredential_source = Ec2InstanceMetadata\n\
        [profile web]\nrole_arn = R\nweb_identity_token_file = ~/token\n[profile on-web]\nrole_arn = Q\nsource_profile = web\n\
        [profile typed]\nrole_arn = R\nsource_profile = base\nmfa_serial = M\n[profile alone]\nrole_arn = R\n\
        [profile lost]\nrole_arn = R\nsource_profile = nobody\n[profile a]\nrole_arn = R\nsource_profile = b\n[profile b]\nrole_arn = R\nsource_profile = a\n\
        [profile keyless]\nrole_arn = R\nsource_profile = keyless\n[profile odd]\nrole_arn = R\ncredential_source = Elsewhere\n";

    /// What is found of roles, in a line: what the first is taken with, and then each.
    fn roles(profile: &str, variables: &[(&str, &str)]) -> Result<String, String> {
        let home = tempfile::tempdir().unwrap();
        let config = home.path().join("config");
        std::fs::write(&config, ROLES).unwrap();
        let variable = |name: &str| match name {
            "HOME" => Some("/home/me".to_owned()),
            "AWS_CONFIG_FILE" => config.to_str().map(str::to_owned),
            "AWS_PROFILE" => Some(profile.to_owned()),
            name => variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()),
        };
        let found = look_up(&BTreeMap::new(), &variable)?;
        let role = |role: &Role| {
            let parts = [Some(&role.arn), role.external_id.as_ref(), role.session_name.as_ref()];
            parts.into_iter().flatten().cloned().collect::<Vec<_>>().join("/")
        };
        let by_token = found.roles.web_identity.as_ref();
        let first = [
            found.keys.as_ref().map(|keys| format!("keys {}", keys.id)),
            found.credential_process.map(|command| format!("command {command}")),
            by_token.map(|by| format!("{} {}", by.token_file.display(), role(&by.role))),
        ];
        Ok(first.into_iter().flatten().chain(found.roles.taken.iter().map(role)).collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn what_a_role_is_taken_with_is_what_the_profile_says() {
        let web = &[("AWS_WEB_IDENTITY_TOKEN_FILE", "/t"), ("AWS_ROLE_ARN", "W"), ("AWS_ROLE_SESSION_NAME", "N")][..];
        let keys = &[("AWS_ACCESS_KEY_ID", "A")][..];
        for (profile, variables, expected) in [
            ("role", &[][..], "keys A, R/E/S"),
            ("both", &[], "keys A, R/E/S, Q"),
            ("itself", &[], "keys A, R"),
            ("by-command", &[], "command x, R"),
            ("machine", &[], "R"),
            ("web", &[], "/home/me/token R"),
            ("on-web", &[], "/home/me/token R, Q"),
            ("command", &[], "command x"),
            ("command", web, "/t W/N"),
            ("base", web, ""),
            // What is given by variables counts before a file.
            ("role", keys, ""),
        ] {
            assert_eq!(roles(profile, variables).unwrap(), expected, "{profile} {variables:?}");
        }
        for (profile, words) in [
            ("typed", "mfa_serial"),
            ("alone", "does not say what the role is taken with"),
            ("odd", "does not say what the role is taken with"),
            ("lost", "profile nobody, and there is none"),
            ("a", "in a circle"),
            ("keyless", "has none"),
        ] {
            let error = roles(profile, &[]).unwrap_err();
            assert!(error.contains(words), "{profile}: {error}");
        }
        assert!(roles("base", web).is_ok());
        assert!(roles("command", &web[..1]).unwrap_err().contains("AWS_ROLE_ARN is not"));
        let keys = Keys { id: "ID".to_owned(), secret: "SECRET".to_owned(), session_token: None };
        assert_eq!(format!("{keys:?}"), "Keys { .. }");
    }

    #[test]
    fn what_is_named_and_not_there_is_said() {
        let error = look(&[("profile", "nobody\u{1b}")], &[]).unwrap_err();
        assert!(error.contains("no profile nobody\\") && error.contains(".aws/credentials"), "{error}");
        let error = look(&[], &[("AWS_CONFIG_FILE", "/")]).unwrap_err();
        assert!(error.starts_with("/ cannot be read"), "{error}");
        // Without a home there is nothing to read.
        assert_eq!(look_up(&BTreeMap::new(), &|_| None), Ok(Profile::default()));
    }

    #[test]
    fn whatever_a_file_holds_is_read_to_its_end() {
        for text in [
            "",
            "[",
            "[]",
            "=",
            "[a",
            "x",
            " = ",
            "[a]\n = b\n  c = d",
            "\u{0}\n[\u{0}]\n\u{0}=\u{0}",
            "[a]\nk =\n\tk = \n #x",
        ] {
            parse(text);
        }
        let sections = parse("[a]\nurl = http://h/#x;y ; why\n");
        assert_eq!(sections["a"]["url"], "http://h/#x;y");
    }
}
