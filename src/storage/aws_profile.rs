//! What a profile in the files of AWS says about a store: `~/.aws/config` and `~/.aws/credentials`, or the files that `AWS_CONFIG_FILE` and
//! `AWS_SHARED_CREDENTIALS_FILE` name.
//!
//! OpenDAL reads keys from them, and nothing else. So region, endpoint and `credential_process` are read here, in the order of AWS's own
//! tools: an option of the mirror counts before a variable, and that before a file. The command is not run here.

use std::collections::BTreeMap;
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
}

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
        || ["AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE"].iter().any(|name| variable(name).is_some())
        || of("aws_access_key_id").is_some();
    found.credential_process = of("credential_process").filter(|_| !is_given);
    Ok(found)
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
            (&[("profile", "work")], &[("AWS_WEB_IDENTITY_TOKEN_FILE", "/t")], "endpoint=https://all region=eu-2"),
            (&[("profile", "work"), ("disable_config_load", "true")], &[], ""),
            (&[], &[("AWS_CONFIG_FILE", "~/other")], "region=moon-1"),
            (&[], &[("AWS_CONFIG_FILE", "/no/such/file")], ""),
        ] {
            assert_eq!(settings(options, variables), expected, "{options:?} {variables:?}");
        }
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
