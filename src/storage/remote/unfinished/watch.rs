//! The id of an upload in parts, which OpenDAL keeps to itself. It stands in the address of every request that sends a part, and those go through
//! our own transport. The first of them waits until the id was noted: from then on a kill leaves nothing that is not known.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::Context;

use http::{Request, Response, Uri};
use opendal::{Buffer, HttpBody, HttpTransport, Result};

tokio::task_local! {
    static SEEN: Seen;
}

/// The id that the requests of one upload had.
pub(in crate::storage::remote) type Seen = Arc<OnceLock<String>>;

/// Runs what sends an upload's parts, and keeps its id. `note` is called whenever the request has come as far as it can for now, and before any of
/// a part has left.
pub(in crate::storage::remote) async fn watch<F: Future>(seen: &Seen, note: impl Fn(), sending: F) -> F::Output {
    let mut sending = pin!(SEEN.scope(Arc::clone(seen), sending));
    let step = |context: &mut Context<'_>| {
        let polled = sending.as_mut().poll(context);
        note();
        polled
    };
    poll_fn(step).await
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
        let is_first = SEEN.try_with(|seen| {
            let id = if seen.get().is_none() { id_in(request.uri()) } else { None };
            id.is_some_and(|id| seen.set(id).is_ok())
        });
        if is_first.unwrap_or(false) {
            // Back to whoever watches, who notes it.
            tokio::task::yield_now().await;
        }
        self.0.fetch(request).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Mutex;

    use super::*;

    /// Says that it was asked.
    struct Asked(Arc<Mutex<Vec<&'static str>>>);

    impl HttpTransport for Asked {
        async fn fetch(&self, _: Request<Buffer>) -> Result<Response<HttpBody>> {
            self.0.lock().unwrap().push("sent");
            Err(opendal::Error::new(opendal::ErrorKind::Unexpected, "no line"))
        }
    }

    #[test]
    fn an_upload_is_noted_before_anything_of_it_leaves() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (order, seen) = (Arc::<Mutex<Vec<&'static str>>>::default(), Seen::default());
        let transport = Watched(Asked(Arc::clone(&order)));
        let note = || {
            if seen.get().is_some() {
                order.lock().unwrap().push("noted");
            }
        };
        let ask = |uri: &'static str| {
            let request = Request::get(uri).body(Buffer::new()).unwrap();
            let _ = runtime.block_on(watch(&seen, note, transport.fetch(request)));
        };
        ask("http://h/b/k?uploads");
        ask("http://h/b/k?partNumber=1&uploadId=a");
        assert_eq!(order.lock().unwrap()[..3], ["sent", "noted", "sent"]);
        // Another one's id is not taken for this one's.
        ask("http://h/b/k?partNumber=1&uploadId=b");
        assert_eq!(seen.get().unwrap(), "a");
    }

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
