//! The calls of S3, which Google's XML interface has as well: `GET /BUCKET?uploads` and `DELETE /BUCKET/KEY?uploadId=ID`, signed with what OpenDAL
//! signs with.
//!
//! OpenDAL does not hand out its signer. That of S3 has the credentials that OpenDAL's has too (`aws_credentials`). That of Google is made of the same
//! settings by the same crates and in the same order as in `opendal-service-gcs` 0.59 (`backend.rs`): what a person set counts before what the
//! environment, a file or the machine has.

use std::collections::BTreeMap;

use http::header::HOST;
use http::{Method, Request, Response, StatusCode};
use jiff::Timestamp;
use opendal::raw::percent_encode_path;
use opendal::services::{GcsConfig, S3Config};
use opendal::{Buffer, HttpTransporter, Result};
use quick_xml::de;
use reqsign_aws_v4::Credential as AwsCredential;
use reqsign_core::{Context, Env, OsEnv, ProvideCredentialChain, Signer, StaticEnv};
use reqsign_file_read_tokio::TokioFileRead;
use reqsign_google::Credential as GoogleCredential;
use serde::Deserialize;
use url::Url;

use super::{Aborted, Found, Page, date_of, failed, in_query, is_refusal, prefix_of, read_settings, wrong};
use crate::storage::UnfinishedUpload;
use crate::storage::remote::aws_credentials::{AwsCredentials, region_of};

/// Where Google's store is unless told otherwise, and what for: as OpenDAL has it.
const GOOGLE: &str = "https://storage.googleapis.com";
const GOOGLE_SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_write";
/// How the names of buckets end that AWS keeps in one zone. They are signed for in another way, and are not asked.
const ONE_ZONE: &str = "--x-s3";

enum Signing {
    /// Anybody may ask.
    Nothing,
    Aws(Signer<AwsCredential>),
    Google(Signer<GoogleCredential>),
}

/// See the module.
pub(super) struct Xml {
    /// The address of the bucket.
    bucket: String,
    /// The root, as a part of keys.
    pub prefix: String,
    signing: Signing,
    /// Whoever asks pays.
    payer: bool,
    http: HttpTransporter,
}

impl std::fmt::Debug for Xml {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Xml").field("bucket", &self.bucket).finish_non_exhaustive()
    }
}

fn context(http: &HttpTransporter) -> Context {
    Context::new().with_file_read(TokioFileRead).with_http_send(http.clone()).with_env(OsEnv)
}

/// The address of a bucket: `build_endpoint` of OpenDAL's S3 service.
fn bucket_address(config: &S3Config, region: &str) -> String {
    let bucket = &config.bucket;
    let mut endpoint = match &config.endpoint {
        Some(endpoint) if endpoint.starts_with("http") => endpoint.clone(),
        Some(endpoint) => format!("https://{endpoint}"),
        None => "https://s3.amazonaws.com".to_owned(),
    };
    endpoint = endpoint.trim_end_matches('/').replace(&format!("//{bucket}."), "//");
    if let Ok(url) = Url::parse(&endpoint) {
        endpoint = url.to_string().trim_end_matches('/').to_owned();
    }
    if endpoint == "https://s3.amazonaws.com" {
        endpoint = format!("https://s3.{region}.amazonaws.com");
    }
    match config.enable_virtual_host_style {
        true => endpoint.replace("//", &format!("//{bucket}.")),
        false => format!("{endpoint}/{bucket}"),
    }
}

/// Where the credentials of Google come from.
fn google_credentials(config: &GcsConfig, scope: &str) -> ProvideCredentialChain<GoogleCredential> {
    let mut default = reqsign_google::DefaultCredentialProvider::builder();
    if config.disable_config_load {
        default = default.no_env().no_well_known();
    }
    if config.disable_vm_metadata || config.service_account.is_some() {
        default = default.no_vm_metadata();
    }
    let mut chain = ProvideCredentialChain::new().push(default.build());
    if let Some(account) = config.service_account.as_deref().filter(|_| !config.disable_vm_metadata) {
        let machine = reqsign_google::VmMetadataCredentialProvider::new();
        chain = chain.push(machine.with_scope(scope).with_service_account(account));
    }
    if let Some(path) = config.credential_path.as_deref() {
        chain = chain.push_front(reqsign_google::FileCredentialProvider::new(path).with_scope(scope));
    }
    let given = config.credential.as_deref().map(reqsign_google::StaticCredentialProvider::from_base64);
    if let Some(Ok(given)) = given {
        chain = chain.push_front(given.with_scope(scope));
    }
    if let Some(token) = config.token.as_deref() {
        chain = chain.push_front(reqsign_google::TokenCredentialProvider::new(token));
    }
    chain
}

/// A page as the store writes it. What it says besides is passed over.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct XmlPage {
    upload: Vec<XmlUpload>,
    is_truncated: String,
    next_key_marker: String,
    next_upload_id_marker: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct XmlUpload {
    key: String,
    upload_id: String,
    initiated: String,
}

/// Reads a page.
fn page_of(text: &str) -> Result<Page> {
    let page: XmlPage = de::from_str(text).map_err(wrong)?;
    let is_cut = page.is_truncated.trim().eq_ignore_ascii_case("true") && !page.next_key_marker.is_empty();
    let found = page.upload.into_iter().map(|upload| {
        let begun = upload.initiated.trim().parse::<Timestamp>().ok();
        Found { key: upload.key, id: upload.upload_id, begun }
    });
    let next = is_cut.then_some((page.next_key_marker, page.next_upload_id_marker));
    Ok(Page { found: found.filter(|found| !found.id.is_empty()).collect(), next, now: None })
}

impl Xml {
    /// S3's. None for a bucket that is signed for in another way, and without a region: then OpenDAL has refused the settings.
    pub fn s3(
        settings: &BTreeMap<String, String>,
        http: HttpTransporter,
        credentials: Option<AwsCredentials>,
    ) -> Option<Self> {
        let mut config: S3Config = read_settings(settings)?;
        if config.bucket.ends_with(ONE_ZONE) {
            return None;
        }
        let environment = |names: &[&str]| names.iter().find_map(|name| std::env::var(name).ok());
        let region = region_of(&config)?;
        if config.endpoint.is_none() && !config.disable_config_load {
            config.endpoint = environment(&["AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AWS_S3_ENDPOINT"]);
        }
        #[allow(deprecated, reason = "OpenDAL still reads it")]
        let signing = if config.skip_signature || config.allow_anonymous {
            Signing::Nothing
        } else {
            let signer = reqsign_aws_v4::RequestSigner::new("s3", &region);
            Signing::Aws(Signer::new(context(&http), credentials?, signer))
        };
        Some(Self {
            bucket: bucket_address(&config, &region),
            prefix: prefix_of(config.root.as_ref()),
            signing,
            payer: config.enable_request_payer,
            http,
        })
    }

    /// Google's.
    pub fn gcs(settings: &BTreeMap<String, String>, http: HttpTransporter) -> Option<Self> {
        let config: GcsConfig = read_settings(settings)?;
        let scope = config.scope.clone().unwrap_or_else(|| GOOGLE_SCOPE.to_owned());
        #[allow(deprecated, reason = "OpenDAL still reads it")]
        let signing = if config.skip_signature || config.allow_anonymous {
            Signing::Nothing
        } else {
            let mut envs = OsEnv.vars();
            envs.insert("GOOGLE_SCOPE".to_owned(), scope.clone());
            let context = context(&http).with_env(StaticEnv { home_dir: OsEnv.home_dir(), envs });
            let signer = reqsign_google::RequestSigner::new("storage").with_scope(&scope);
            Signing::Google(Signer::new(context, google_credentials(&config, &scope), signer))
        };
        let endpoint = config.endpoint.as_deref().unwrap_or(GOOGLE);
        let bucket = format!("{}/{}", endpoint.trim_end_matches('/'), config.bucket);
        Some(Self { bucket, prefix: prefix_of(config.root.as_ref()), signing, payer: false, http })
    }

    /// The address of a page that begins behind `from`.
    fn list_url(&self, from: Option<&(String, String)>) -> String {
        let mut url = format!("{}?uploads", self.bucket);
        let mut add = |name: &str, value: &str| {
            if !value.is_empty() {
                url.push_str(&format!("&{name}={}", in_query(value)));
            }
        };
        add("prefix", &self.prefix);
        if let Some((key, id)) = from {
            add("key-marker", key);
            add("upload-id-marker", id);
        }
        url
    }

    /// The address of an upload.
    fn upload_url(&self, upload: &UnfinishedUpload) -> String {
        let key = percent_encode_path(&format!("{}{}", self.prefix, upload.path));
        format!("{}/{key}?uploadId={}", self.bucket, in_query(&upload.id))
    }

    async fn send(&self, method: Method, url: &str) -> Result<Response<Buffer>> {
        let mut request = Request::builder().method(method).uri(url);
        if self.payer {
            request = request.header("x-amz-request-payer", "requester");
        }
        let (mut parts, body) = request.body(Buffer::new()).map_err(wrong)?.into_parts();
        match &self.signing {
            Signing::Nothing => {}
            Signing::Aws(signer) => signer.sign(&mut parts, None).await.map_err(wrong)?,
            Signing::Google(signer) => signer.sign(&mut parts, None).await.map_err(wrong)?,
        }
        // The client sets it.
        parts.headers.remove(HOST);
        self.http.send(Request::from_parts(parts, body)).await
    }

    pub async fn list(&self, from: Option<&(String, String)>) -> Result<Page> {
        let answer = self.send(Method::GET, &self.list_url(from)).await?;
        if !answer.status().is_success() {
            return Err(failed(answer.status()));
        }
        let now = date_of(answer.headers());
        let bytes = answer.into_body().to_bytes();
        Ok(Page { now, ..page_of(std::str::from_utf8(&bytes).map_err(wrong)?)? })
    }

    /// What the bucket says of itself; nothing where it has no such thing, or does not tell us.
    pub async fn ask(&self, question: &str) -> Result<Option<String>> {
        let answer = self.send(Method::GET, &format!("{}?{question}", self.bucket)).await?;
        if !answer.status().is_success() {
            return Ok(None);
        }
        Ok(String::from_utf8(answer.into_body().to_vec()).ok())
    }

    pub async fn abort(&self, upload: &UnfinishedUpload) -> Result<Aborted> {
        let status = self.send(Method::DELETE, &self.upload_url(upload)).await?.status();
        match status {
            StatusCode::NOT_FOUND => Ok(Aborted::Before),
            status if status.is_success() => Ok(Aborted::Now),
            status if is_refusal(status) => Ok(Aborted::Refused),
            status => Err(failed(status)),
        }
    }
}
