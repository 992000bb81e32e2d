//! What a store of S3 is asked with: keys, or credentials that AWS STS lends for a role and for a time.
//!
//! STS is another host than the mirror's, so it is asked over a transport of its own:
//!
//! - Certificates count for it that the system trusts. The mirror's option `ca_file` says nothing about Amazon.
//! - An answer is waited for [`ANSWER`], however slowly it comes, and is small.
//! - Nothing of what the mirror's request is about belongs to it: not the body that is to be sent, not the length that is expected.
//!
//! OpenDAL's own signer of `role_arn` loads what the role is taken with over a transport that this build has not, and a chain of reqsign passes over what fails: without an
//! identity token it would ask the machine's metadata next, and say at the end that there are no credentials. So the chain is made here, once for
//! OpenDAL and for our own calls, and a failure is [`NotLent`]: it names the role.
//!
//! Credentials are kept until two minutes before their end (`reqsign`), then others are fetched, in the middle of a sync too. They are in
//! memory only. Of an answer that lends something nothing is shown, and of a refusal all but the token that it was asked with.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use opendal::services::S3Config;
use opendal::{Buffer, HttpTransporter};
use reqsign_aws_v4::{
    AssumeRoleCredentialProvider, AssumeRoleWithWebIdentityCredentialProvider, Credential, DefaultCredentialProvider,
    RequestSigner, StaticCredentialProvider,
};
use reqsign_core::time::Timestamp;
use reqsign_core::{
    Context, Error, HttpSend, OsEnv, ProvideCredential, ProvideCredentialChain, Result, Signer, SigningCredential,
};
use reqsign_file_read_tokio::TokioFileRead;

use super::failure::{WRONG_CLOCK, all_words, may_pass};
use super::flow::Flow;
use super::said::Said;
use crate::base::escape::escape;
use crate::base::lock::lock;
use crate::storage::ErrorKind;
use crate::storage::aws_profile::{Role, Roles, WebIdentity};
use crate::storage::cause::Cause;
use crate::storage::patience::Patience;

/// How long an answer is waited for, at most.
const ANSWER: Duration = Duration::from_secs(10);
/// Bytes of a token, at most. STS takes 20,000.
const TOKEN_BYTES_MAX: u64 = 64 << 10;
/// So long credentials have to be valid, at least, to be of use.
const USE: Duration = Duration::from_secs(10);
/// What a session is called where nobody says it.
const SESSION: &str = "packstone";
/// The name of the parameter that is secret.
const TOKEN: &str = "WebIdentityToken";

/// Why nothing was lent. Whoever asks hears it by his [`Flow`]: a chain of OpenDAL keeps no reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NotLent {
    /// What is behind it.
    pub cause: Cause,
    /// The role, and what was said about it, escaped.
    pub words: String,
}

impl NotLent {
    /// The same as the failure of the operation that they were needed for.
    pub fn reading(self) -> (ErrorKind, Option<Cause>, String) {
        let kind = if self.cause.may_pass() { ErrorKind::Unavailable } else { ErrorKind::Refused };
        let words = if self.cause == Cause::Clock { WRONG_CLOCK.to_owned() } else { self.words };
        (kind, Some(self.cause), words)
    }
}

/// What became of the last question to STS that did not end well, as far as is known.
type Outcome = Arc<Mutex<Option<NotLent>>>;

/// See the module.
#[derive(Clone)]
pub(super) struct AwsCredentials(Arc<Kept>);

struct Kept {
    chain: ProvideCredentialChain<Credential>,
    context: Context,
    outcome: Outcome,
    /// What was lent last. Whoever waits for it does not ask as well.
    lent: tokio::sync::Mutex<Option<Credential>>,
}

impl fmt::Debug for AwsCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsCredentials").finish_non_exhaustive()
    }
}

/// The region of a mirror: an option, or a variable.
pub(super) fn region_of(config: &S3Config) -> Option<String> {
    let environment = |name: &str| std::env::var(name).ok();
    config.region.clone().or_else(|| environment("AWS_REGION")).or_else(|| environment("AWS_DEFAULT_REGION"))
}

impl AwsCredentials {
    /// Those of a mirror with these settings, in this region, with what the environment and the profile lend. `http` asks STS, and the metadata of
    /// a machine or container.
    pub fn new(config: &S3Config, region: &str, roles: &Roles, http: HttpTransporter, patience: &Patience) -> Self {
        let outcome = Outcome::default();
        let sts = Sts { http, outcome: Arc::clone(&outcome), answer: ANSWER.min(patience.answer / 2) };
        let context = Context::new().with_file_read(TokioFileRead).with_http_send(sts).with_env(OsEnv);
        let mut chain = ProvideCredentialChain::new();
        chain = match (&config.access_key_id, &config.secret_access_key, &roles.web_identity) {
            (Some(key), Some(secret), _) => {
                let given = StaticCredentialProvider::new(key, secret);
                chain.push(match config.session_token.as_deref() {
                    Some(token) => given.with_session_token(token),
                    None => given,
                })
            }
            (_, _, Some(identity)) => {
                let (identity, region, outcome) = (identity.clone(), region.to_owned(), Arc::clone(&outcome));
                chain.push(ByToken { identity, region, outcome })
            }
            _ => chain.push(default_provider(config, roles)),
        };
        let named = config.role_arn.as_ref().filter(|arn| !arn.is_empty()).map(|arn| Role {
            arn: arn.clone(),
            external_id: config.external_id.clone(),
            session_name: config.role_session_name.clone(),
        });
        for role in roles.taken.iter().chain(&named) {
            let signer = Signer::new(context.clone(), chain, RequestSigner::new("sts", region));
            let session = role.session_name.clone().unwrap_or_else(|| SESSION.to_owned());
            let mut taken = AssumeRoleCredentialProvider::new(role.arn.clone(), signer)
                .with_region(region.to_owned())
                .with_regional_sts_endpoint()
                .with_role_session_name(session);
            if let Some(id) = &role.external_id {
                taken = taken.with_external_id(id.clone());
            }
            chain =
                ProvideCredentialChain::new().push(Named { role: role.arn.clone(), taken, outcome: outcome.clone() });
        }
        Self(Arc::new(Kept { chain, context, outcome, lent: tokio::sync::Mutex::default() }))
    }
}

/// What the environment, a profile, a container or a machine has.
fn default_provider(config: &S3Config, roles: &Roles) -> DefaultCredentialProvider {
    let mut default = DefaultCredentialProvider::builder().no_web_identity();
    let profile = roles.source_profile.as_deref().or(config.profile.as_deref());
    if config.disable_config_load {
        default = default.no_env().no_profile();
    } else if let Some(profile) = profile.filter(|profile| !profile.is_empty()) {
        default = default.with_profile(profile);
    }
    if config.disable_ec2_metadata {
        default = default.no_imds();
    }
    default.build()
}

impl ProvideCredential for AwsCredentials {
    type Credential = Credential;

    async fn provide_credential(&self, _: &Context) -> Result<Option<Credential>> {
        let mut lent = self.0.lent.lock().await;
        if let Some(lent) = lent.as_ref().filter(|lent| lent.is_valid()) {
            return Ok(Some(lent.clone()));
        }
        *lock(&self.0.outcome) = None;
        let found = self.0.chain.provide_credential(&self.0.context).await;
        if let Ok(Some(found)) = &found {
            *lent = Some(found.clone());
            return Ok(Some(found.clone()));
        }
        match lock(&self.0.outcome).take() {
            Some(why) => {
                if let Some(flow) = Flow::current() {
                    flow.fail_unlent(why);
                }
                Err(Error::credential_invalid("AWS STS lent nothing"))
            }
            None => found,
        }
    }
}

/// The first role is taken with the token of another identity provider.
#[derive(Debug)]
struct ByToken {
    identity: WebIdentity,
    region: String,
    outcome: Outcome,
}

/// A token as a file has it.
fn read_token(path: &Path) -> std::result::Result<String, String> {
    let found = path.metadata().map_err(|error| error.to_string())?;
    // What is no file may never end.
    if !found.is_file() || found.len() > TOKEN_BYTES_MAX {
        return Err("it is no file with a token".to_owned());
    }
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let text = String::from_utf8(bytes).map_err(|_| "it is no text".to_owned())?;
    let token = text.trim();
    if token.is_empty() { Err("it is empty".to_owned()) } else { Ok(token.to_owned()) }
}

impl ProvideCredential for ByToken {
    type Credential = Credential;

    async fn provide_credential(&self, context: &Context) -> Result<Option<Credential>> {
        let WebIdentity { role, token_file } = &self.identity;
        let token = read_token(token_file).map_err(|why| {
            let path = escape(token_file.as_os_str().as_encoded_bytes());
            let words = format!("role {}, file {path}: {why}", escape(role.arn.as_bytes()));
            *lock(&self.outcome) = Some(NotLent { cause: Cause::RoleTokenFile, words });
            Error::config_invalid("the file of an identity token")
        })?;
        let session = role.session_name.clone().unwrap_or_else(|| SESSION.to_owned());
        let asked = AssumeRoleWithWebIdentityCredentialProvider::new()
            .with_role_arn(role.arn.clone())
            .with_subject_token(token)
            .with_role_session_name(session)
            .with_region(self.region.clone())
            .with_regional_sts_endpoint();
        let lent = check(asked.provide_credential(context).await, &role.arn, &self.outcome)?;
        if lent.as_ref().is_some_and(|lent| !lent.is_valid_at(Timestamp::now() + USE)) {
            return Err(Error::credential_invalid("AWS STS lent nothing that is valid"));
        }
        *lock(&self.outcome) = None;
        Ok(lent)
    }
}

/// A role that is taken with what another provider has.
#[derive(Debug)]
struct Named {
    role: String,
    taken: AssumeRoleCredentialProvider,
    outcome: Outcome,
}

impl ProvideCredential for Named {
    type Credential = Credential;

    async fn provide_credential(&self, context: &Context) -> Result<Option<Credential>> {
        let lent = check(self.taken.provide_credential(context).await, &self.role, &self.outcome)?;
        *lock(&self.outcome) = None;
        Ok(lent)
    }
}

/// What failed before STS was asked is about the name of the role: `reqsign` looks at it.
fn check(lent: Result<Option<Credential>>, role: &str, outcome: &Outcome) -> Result<Option<Credential>> {
    lent.inspect_err(|error| {
        use reqsign_core::ErrorKind::{ConfigInvalid, RequestInvalid};
        let mut outcome = lock(outcome);
        if outcome.is_none() && matches!(error.kind(), ConfigInvalid | RequestInvalid) {
            let words = format!("role {}: {}", escape(role.as_bytes()), escape(error.to_string().as_bytes()));
            *outcome = Some(NotLent { cause: Cause::Settings, words });
        }
    })
}

/// Asks STS.
#[derive(Debug)]
struct Sts {
    http: HttpTransporter,
    outcome: Outcome,
    answer: Duration,
}

/// What a question to STS is about: the role, and a token that must not be shown.
#[derive(Default)]
struct Asked {
    role: Option<String>,
    token: Option<String>,
}

impl Asked {
    fn read(request: &Request<Bytes>) -> Self {
        let mut asked = Self::default();
        if !request.uri().host().is_some_and(|host| host.starts_with("sts.")) {
            return asked;
        }
        for part in [request.uri().query().unwrap_or_default().as_bytes(), request.body()] {
            for (key, value) in url::form_urlencoded::parse(part) {
                match key.as_ref() {
                    "RoleArn" => asked.role = Some(value.into_owned()),
                    TOKEN => asked.token = Some(value.into_owned()),
                    _ => {}
                }
            }
        }
        asked
    }

    /// What is shown of it.
    fn failed(&self, cause: Cause, host: &str, words: &str) -> Option<NotLent> {
        let role = escape(self.role.as_ref()?.as_bytes());
        let words = self.token.iter().fold(words.to_owned(), |words, token| words.replace(token.as_str(), "..."));
        Some(NotLent { cause, words: format!("role {role}, asked of {host}: {words}") })
    }
}

impl HttpSend for Sts {
    async fn http_send(&self, request: Request<Bytes>) -> Result<Response<Bytes>> {
        let asked = Asked::read(&request);
        let host = request.uri().host().unwrap_or_default().to_owned();
        let remember = |cause, words: &str| {
            if let Some(failed) = asked.failed(cause, &host, words) {
                *lock(&self.outcome) = Some(failed);
            }
        };
        // It has nothing of the operation that it is needed for.
        let flow = Arc::new(Flow::new(0, Arc::default()));
        let sent = flow.scope(self.http.send(request.map(Buffer::from)));
        let answer = match tokio::time::timeout(self.answer, sent).await {
            Ok(Ok(answer)) => answer.map(|body| body.to_bytes()),
            Ok(Err(error)) => {
                let cause = if may_pass(&error) { Cause::RoleSilent } else { Cause::RoleService };
                remember(cause, &all_words(&error));
                return Err(Error::unexpected("AWS STS").with_source(error));
            }
            Err(_) => {
                let words = format!("no whole answer came within {} s", self.answer.as_secs());
                remember(Cause::RoleSilent, &words);
                return Err(Error::unexpected(words));
            }
        };
        if answer.status() == StatusCode::OK {
            // Until it has been read.
            let length = answer.body().len();
            remember(
                Cause::RoleService,
                &format!("the {length} bytes that came hold no credentials that are valid now"),
            );
        } else {
            let said = Said::read(answer.status(), answer.headers(), answer.body());
            remember(cause_of(&said, asked.token.is_some()), &said.words());
        }
        Ok(answer)
    }
}

/// What is behind a refusal of STS, whose codes stand in the API reference of AWS STS (`AssumeRole`, `AssumeRoleWithWebIdentity`, common errors).
fn cause_of(said: &Said, by_token: bool) -> Cause {
    let is_late = said.message.contains("Signature expired") || said.message.contains("Signature not yet current");
    match said.code.as_str() {
        "RequestExpired" | "RequestTimeTooSkewed" => Cause::Clock,
        "SignatureDoesNotMatch" if is_late => Cause::Clock,
        "SignatureDoesNotMatch" | "IncompleteSignature" => Cause::SecretWrong,
        "InvalidClientTokenId" | "UnrecognizedClientException" => Cause::KeyUnknown,
        "ExpiredToken" | "ExpiredTokenException" | "InvalidIdentityToken" | "IDPRejectedClaim" if by_token => {
            Cause::RoleToken
        }
        "ExpiredToken" | "ExpiredTokenException" => Cause::Expired,
        "IDPCommunicationError" | "Throttling" | "ThrottlingException" | "RequestLimitExceeded" => Cause::RoleSilent,
        "RegionDisabledException" => Cause::RoleService,
        _ if said.status == 429 || said.status >= 500 => Cause::RoleSilent,
        // Somebody stands in between.
        "" => Cause::RoleService,
        _ => Cause::RoleRefused,
    }
}
