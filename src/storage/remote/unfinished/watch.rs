//! The id of an upload in parts, which OpenDAL keeps to itself. It stands in the address of every request that sends a part, and those go through
//! our own transport.

use std::future::Future;
use std::sync::{Arc, OnceLock};

use http::{Request, Response, Uri};
use opendal::{Buffer, HttpBody, HttpTransport, Result};

tokio::task_local! {
    static SEEN: Seen;
}

/// The id that the requests of one upload had.
pub(in crate::storage::remote) type Seen = Arc<OnceLock<String>>;

/// Runs what sends an upload's parts, and keeps its id.
pub(in crate::storage::remote) async fn watch<F: Future>(seen: &Seen, sending: F) -> F::Output {
    SEEN.scope(Arc::clone(seen), sending).await
}

/// The id in the address of a request: S3 and GCS name it in the part's own, B2 in the one that asks where the part shall go.
fn id_in(uri: &Uri) -> Option<String> {
    let query = uri.query()?;
    let pairs: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).collect();
    let value = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_ref());
    let of_b2 = || value("fileId").filter(|_| uri.path().ends_with("/b2_get_upload_part_url"));
    value("uploadId").or_else(of_b2).filter(|id| !id.is_empty()).map(str::to_owned)
}

/// A transport whose requests are looked at.
pub(in crate::storage::remote) struct Watched<T>(pub T);

impl<T: HttpTransport> HttpTransport for Watched<T> {
    async fn fetch(&self, request: Request<Buffer>) -> Result<Response<HttpBody>> {
        let _ = SEEN.try_with(|seen| {
            if seen.get().is_none()
                && let Some(id) = id_in(request.uri())
            {
                let _ = seen.set(id);
            }
        });
        self.0.fetch(request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_from_the_addresses_that_have_one() {
        let id = |uri: &'static str| id_in(&Uri::from_static(uri));
        assert_eq!(id("http://h/b/k?partNumber=1&uploadId=a%2Bb%2Fc"), Some("a+b/c".to_owned()));
        assert_eq!(id("https://h/b2api/v2/b2_get_upload_part_url?fileId=4_z1"), Some("4_z1".to_owned()));
        for other in [
            "http://h/b/k?uploads",
            "http://h/b/k",
            "http://h/b/k?partNumber=1&uploadId=",
            "http://h/b2api/v2/b2_hide_file?fileId=4",
        ] {
            assert_eq!(id(other), None, "{other}");
        }
    }
}
