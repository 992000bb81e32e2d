//! The calls of Backblaze B2: `b2_list_unfinished_large_files` and `b2_cancel_large_file`, with the token that `b2_authorize_account` gives for a
//! key, as OpenDAL asks for it.

use std::collections::BTreeMap;

use http::header::AUTHORIZATION;
use http::{Method, Request, Response, StatusCode};
use jiff::Timestamp;
use opendal::raw::{format_authorization_by_basic, percent_encode_path};
use opendal::services::B2Config;
use opendal::{Buffer, HttpTransporter, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;

use super::{Aborted, Found, Page, date_of, failed, is_refusal, prefix_of, read_settings, wrong};
use crate::storage::UnfinishedUpload;

const AUTHORIZE: &str = "https://api.backblazeb2.com/b2api/v2/b2_authorize_account";

/// See the module.
pub(super) struct B2 {
    bucket: String,
    /// The root, as a part of keys. OpenDAL encodes the name of a large file as if it stood in an address, and B2 keeps it so.
    pub prefix: String,
    key_id: String,
    key: String,
    account: OnceCell<Account>,
    http: HttpTransporter,
}

impl std::fmt::Debug for B2 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("B2").field("bucket", &self.bucket).finish_non_exhaustive()
    }
}

/// Where to ask, and with what.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Account {
    api_url: String,
    authorization_token: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Files {
    files: Vec<File>,
    next_file_id: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct File {
    file_id: String,
    file_name: String,
    /// Milliseconds since 1970.
    upload_timestamp: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Refusal {
    code: String,
}

fn read<T: DeserializeOwned>(answer: Response<Buffer>) -> Result<T> {
    serde_json::from_slice(&answer.into_body().to_bytes()).map_err(wrong)
}

impl B2 {
    pub fn new(settings: &BTreeMap<String, String>, http: HttpTransporter) -> Option<Self> {
        let config: B2Config = read_settings(settings)?;
        Some(Self {
            bucket: config.bucket_id,
            prefix: percent_encode_path(&prefix_of(config.root.as_ref())),
            key_id: config.application_key_id?,
            key: config.application_key?,
            account: OnceCell::new(),
            http,
        })
    }

    async fn authorize(&self) -> Result<Account> {
        let authorization = format_authorization_by_basic(&self.key_id, &self.key)?;
        let request = Request::get(AUTHORIZE).header(AUTHORIZATION, authorization);
        let answer = self.http.send(request.body(Buffer::new()).map_err(wrong)?).await?;
        if !answer.status().is_success() {
            return Err(failed(answer.status()));
        }
        let account: Account = read(answer)?;
        // The token goes nowhere in the clear.
        if account.api_url.starts_with("https://") { Ok(account) } else { Err(failed(StatusCode::OK)) }
    }

    async fn call(&self, name: &str, body: &serde_json::Value) -> Result<Response<Buffer>> {
        let account = self.account.get_or_try_init(|| self.authorize()).await?;
        let url = format!("{}/b2api/v2/{name}", account.api_url);
        let request = Request::builder().method(Method::POST).uri(url);
        let request = request.header(AUTHORIZATION, &account.authorization_token);
        self.http.send(request.body(Buffer::from(body.to_string())).map_err(wrong)?).await
    }

    pub async fn list(&self, from: Option<&(String, String)>) -> Result<Page> {
        let mut body = serde_json::json!({"bucketId": self.bucket, "namePrefix": self.prefix, "maxFileCount": 100});
        if let Some((_, id)) = from {
            body["startFileId"] = id.as_str().into();
        }
        let answer = self.call("b2_list_unfinished_large_files", &body).await?;
        if !answer.status().is_success() {
            return Err(failed(answer.status()));
        }
        let now = date_of(answer.headers());
        let files: Files = read(answer)?;
        let found = files.files.into_iter().map(|file| {
            let begun = file.upload_timestamp.and_then(|time| Timestamp::from_millisecond(time).ok());
            Found { key: file.file_name, id: file.file_id, begun }
        });
        let next = files.next_file_id.filter(|id| !id.is_empty()).map(|id| (String::new(), id));
        Ok(Page { found: found.filter(|found| !found.id.is_empty()).collect(), next, now })
    }

    pub async fn abort(&self, upload: &UnfinishedUpload) -> Result<Aborted> {
        let answer = self.call("b2_cancel_large_file", &serde_json::json!({"fileId": upload.id})).await?;
        let status = answer.status();
        if status.is_success() {
            return Ok(Aborted::Now);
        }
        let code = read::<Refusal>(answer).unwrap_or_default().code;
        match status {
            // A file that was finished, or cancelled, is no upload any more.
            StatusCode::BAD_REQUEST if code == "no_such_file" || code == "file_not_present" => Ok(Aborted::Before),
            StatusCode::NOT_FOUND => Ok(Aborted::Before),
            status if is_refusal(status) => Ok(Aborted::Refused),
            status => Err(failed(status)),
        }
    }
}
