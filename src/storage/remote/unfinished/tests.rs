//! What is asked, how it is signed, and stores that answer as no store should.
#![allow(clippy::unwrap_used)]

use std::sync::Mutex;

use http::{Request, Response};
use opendal::services::S3Config;
use opendal::{Buffer, HttpBody, HttpTransport};

use super::*;
use crate::storage::MirrorStore;
use crate::storage::address::Address;
use crate::storage::aws_profile::Roles;
use crate::storage::remote::tests::{impatient, s3, server};

type Answerer = dyn Fn(&Request<Buffer>) -> (u16, String) + Send + Sync;

/// Answers without a line, and keeps what it was asked.
#[derive(Clone)]
struct Fake {
    answer: Arc<Answerer>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

#[derive(Debug, Clone)]
struct Asked {
    method: String,
    url: String,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Fake {
    fn new(answer: impl Fn(&Request<Buffer>) -> (u16, String) + Send + Sync + 'static) -> Self {
        Self { answer: Arc::new(answer), asked: Arc::default() }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// What was asked, in short.
    fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| format!("{} {}", asked.method, asked.url)).collect()
    }
}

const NOW: &str = "Mon, 30 Nov 2026 12:00:00 GMT";

impl HttpTransport for Fake {
    async fn fetch(&self, request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
        let header = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
        let headers = request.headers().iter().map(|(name, value)| (name.to_string(), header(value))).collect();
        let body = String::from_utf8(request.body().to_vec()).unwrap();
        let asked = Asked { method: request.method().to_string(), url: request.uri().to_string(), headers, body };
        self.asked.lock().unwrap().push(asked);
        let (status, text) = (self.answer)(&request);
        let length = text.len() as u64;
        let stream = futures_util::stream::iter([Ok(Buffer::from(text))]);
        let body = HttpBody::new(Box::pin(stream), Some(length));
        Ok(Response::builder().status(status).header(DATE, NOW).body(body).unwrap())
    }
}

/// The calls of a mirror at `address`, over this transport.
fn remote(address: &str, secrets: &[(&str, &str)], fake: &Fake) -> Remote {
    let address = Address::parse(address, &[]).unwrap();
    let secrets: BTreeMap<String, String> =
        secrets.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let mut remote = Remote::open_with(&address, &secrets, impatient()).unwrap();
    let mut settings = address.settings();
    settings.extend(secrets);
    let http = HttpTransporter::new(fake.clone());
    let config: Option<S3Config> = read_settings(&settings);
    let lent = config
        .zip(settings.get("region"))
        .map(|(config, region)| AwsCredentials::new(&config, region, &Roles::default(), http.clone(), &impatient()));
    let calls = Calls::new(address.service().scheme, &settings, http, lent);
    remote.calls = calls.map(Arc::new);
    remote
}

const KEY: &str = "access_key_id=AK&region=eu-west-1&disable_config_load=true&disable_ec2_metadata=true";
const PACK: &str = "packs/07/0707070707070707070707070707070707070707070707070707070707070707";

fn upload(id: &str) -> UnfinishedUpload {
    UnfinishedUpload { path: PACK.to_owned(), id: id.to_owned() }
}

fn page(uploads: &[(&str, &str, &str)], more: &str) -> String {
    let mut text = "<?xml version=\"1.0\"?><ListMultipartUploadsResult><Bucket>b</Bucket>".to_owned();
    for (key, id, begun) in uploads {
        text.push_str(&format!(
            "<Upload><Key>{key}</Key><UploadId>{id}</UploadId><Initiator><ID>x</ID></Initiator><Initiated>{begun}</Initiated></Upload>"
        ));
    }
    text + more + "</ListMultipartUploadsResult>"
}

const OLD: &str = "2026-11-20T12:00:00.000Z";
const YOUNG: &str = "2026-11-25T12:00:00.000Z";

#[test]
fn requests_have_the_form_that_the_service_has() {
    let empty = || Fake::new(|_| (200, page(&[], "")));
    for (address, list, abort) in [
        (
            "s3://b/root/of?endpoint=http://h:9000/",
            "GET http://h:9000/b?uploads&prefix=root%2Fof%2F",
            "http://h:9000/b/root/of/PACK?uploadId=a%2F%2B%26%20",
        ),
        (
            "s3://b?endpoint=h.example",
            "GET https://h.example/b?uploads",
            "https://h.example/b/PACK?uploadId=a%2F%2B%26%20",
        ),
        (
            "s3://b/r",
            "GET https://s3.eu-west-1.amazonaws.com/b?uploads&prefix=r%2F",
            "https://s3.eu-west-1.amazonaws.com/b/r/PACK?uploadId=a%2F%2B%26%20",
        ),
        (
            "s3://b/r?enable_virtual_host_style=true",
            "GET https://b.s3.eu-west-1.amazonaws.com/?uploads&prefix=r%2F",
            "https://b.s3.eu-west-1.amazonaws.com/r/PACK?uploadId=a%2F%2B%26%20",
        ),
        (
            "s3://b/r?enable_virtual_host_style=true&endpoint=https://b.h.example",
            "GET https://b.h.example/?uploads&prefix=r%2F",
            "https://b.h.example/r/PACK?uploadId=a%2F%2B%26%20",
        ),
        (
            "s3://b/a%20b%26%C3%A9?endpoint=http://h",
            "GET http://h/b?uploads&prefix=a%20b%26%C3%A9%2F",
            "http://h/b/a%20b%26%C3%A9/PACK?uploadId=a%2F%2B%26%20",
        ),
    ] {
        let fake = empty();
        let address = format!("{address}{}{KEY}", if address.contains('?') { '&' } else { '?' });
        let remote = remote(&address, &[("secret_access_key", "SK")], &fake);
        remote.end_unfinished(&[upload("a/+& ")], true);
        let abort = format!("DELETE {}", abort.replace("PACK", PACK));
        assert_eq!(fake.lines(), [abort, list.to_owned()], "{address}");
    }
    let fake = empty();
    let google = remote("gcs://b/r", &[("token", "T")], &fake);
    google.end_unfinished(&[upload("x")], true);
    let expected = [
        format!("DELETE https://storage.googleapis.com/b/r/{PACK}?uploadId=x"),
        "GET https://storage.googleapis.com/b?uploads&prefix=r%2F".to_owned(),
    ];
    assert_eq!(fake.lines(), expected);
    assert_eq!(fake.asked()[1].headers["authorization"], "Bearer T");
}

#[test]
fn requests_are_signed_as_the_address_says() {
    let asked = |options: &str, secrets: &[(&str, &str)]| {
        let fake = Fake::new(|_| (200, page(&[], "")));
        remote(&format!("s3://b/r?endpoint=http://h&{options}"), secrets, &fake).end_unfinished(&[], true);
        fake.asked().remove(0).headers
    };
    let signed = asked(KEY, &[("secret_access_key", "SK")]);
    assert!(signed["authorization"].starts_with("AWS4-HMAC-SHA256 Credential=AK/"), "{signed:?}");
    assert!(signed["authorization"].contains("/eu-west-1/s3/aws4_request, SignedHeaders=host;"), "{signed:?}");
    assert!(!signed.contains_key("x-amz-security-token") && !signed.contains_key("host"), "{signed:?}");
    let lent = asked(KEY, &[("secret_access_key", "SK"), ("session_token", "ST")]);
    assert_eq!(lent["x-amz-security-token"], "ST");
    assert!(lent["authorization"].contains("x-amz-security-token"), "{lent:?}");
    let paid = asked(&format!("{KEY}&enable_request_payer=true"), &[("secret_access_key", "SK")]);
    assert_eq!(paid["x-amz-request-payer"], "requester");
    assert!(paid["authorization"].contains("x-amz-request-payer"), "{paid:?}");
    assert!(!asked(&format!("{KEY}&skip_signature=true"), &[]).contains_key("authorization"));
    // Signed in another way, or no uploads at all: nothing is asked.
    for address in
        ["s3://b--use1-az4--x-s3/r?region=us-east-1", "azblob://c/r?endpoint=http://h&account_name=a", "gdrive://x"]
    {
        let fake = Fake::new(|_| (200, String::new()));
        let secrets: &[(&str, &str)] = if address.starts_with("azblob") { &[("account_key", "YWJj")] } else { &[] };
        let secrets = if address.starts_with("gdrive") { &[("access_token", "t")] } else { secrets };
        let ended = remote(address, secrets, &fake).end_unfinished(&[upload("x")], true);
        assert_eq!((fake.lines(), ended.gone), (Vec::<String>::new(), vec![upload("x")]), "{address}");
    }
}

#[test]
fn a_role_is_taken_by_our_own_transport() {
    let fake = Fake::new(|request| {
        match request.uri().host() {
        Some("sts.eu-west-1.amazonaws.com") => (
            200,
            "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIAROLEROLEROLE1</AccessKeyId><SecretAccessKey>RS</SecretAccessKey>\
             <SessionToken>RT</SessionToken><Expiration>2999-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
                .to_owned(),
        ),
        _ => (200, page(&[], "")),
    }
    });
    let address = format!("s3://b/r?endpoint=http://h&{KEY}&role_arn=arn:aws:iam::123456789012:role/x&external_id=EEE");
    remote(&address, &[("secret_access_key", "SK")], &fake).end_unfinished(&[upload("x")], true);
    let asked = fake.asked();
    assert_eq!(asked.len(), 3, "one for the role: {:?}", fake.lines());
    assert!(asked[0].url.contains("ExternalId=EEE") || asked[0].body.contains("ExternalId=EEE"), "{:?}", asked[0]);
    for asked in &asked[1..] {
        assert!(asked.headers["authorization"].contains("Credential=ASIAROLEROLEROLE1/"), "{asked:?}");
        assert_eq!(asked.headers["x-amz-security-token"], "RT");
    }
}

/// What the store says of its uploads, and what is aborted then.
fn looked_at(text: impl Fn(&Request<Buffer>) -> String + Send + Sync + 'static) -> (Leftovers, Vec<String>) {
    let fake = Fake::new(move |request| match *request.method() {
        http::Method::DELETE => (204, String::new()),
        _ => (200, text(request)),
    });
    let address = format!("s3://b/r?endpoint=http://h&{KEY}");
    let ended = remote(&address, &[("secret_access_key", "SK")], &fake).end_unfinished(&[], true);
    (ended.leftovers, fake.lines().into_iter().filter(|line| line.starts_with("DELETE")).collect())
}

#[test]
fn only_what_is_old_by_the_stores_clock_and_has_a_name_of_ours_is_aborted() {
    let key = format!("r/{PACK}");
    let aborted = |key: &str, id: &str, begun: &str| {
        let text = page(&[(key, id, begun)], "<IsTruncated>false</IsTruncated>");
        let (leftovers, lines) = looked_at(move |_| text.clone());
        (leftovers.removed.0, leftovers.there.0, lines.len())
    };
    assert_eq!(aborted(&key, "1", OLD), (1, 0, 1));
    assert_eq!(aborted(&format!("\n{key}"), "1", OLD), (0, 0, 0));
    for begun in [YOUNG, "2026-11-23T12:00:01Z", "2999-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "", "yesterday", "-1"]
    {
        assert_eq!(aborted(&key, "1", begun), (0, 1, 0), "{begun}");
    }
    assert_eq!(aborted(&key, "1", "2026-11-23T12:00:00Z"), (1, 0, 1), "seven days");
    let long = "x".repeat(ID_BYTES_MAX + 1);
    assert_eq!((aborted(&key, "", OLD), aborted(&key, &long, OLD)), ((0, 0, 0), (0, 0, 0)));
    for foreign in [
        PACK.to_owned(),
        format!("r2/{PACK}"),
        format!("/r/{PACK}"),
        format!("r//{PACK}"),
        format!("r/{PACK}/"),
        format!("r/{PACK}.jpg"),
        format!("r/../r/{PACK}"),
        format!("r/quarantine/../{PACK}"),
        "r/quarantine/holiday".to_owned(),
        "r/tmp/x".to_owned(),
        "r/".to_owned(),
        String::new(),
        format!("r/{}", PACK.to_uppercase()),
        "r/packs/&#x1b;[2J".to_owned(),
    ] {
        assert_eq!(aborted(&foreign, "1", OLD), (0, 0, 0), "{foreign}");
    }
    // What stands in the id comes to nothing else than an id.
    let text = page(&[(&key, "1&amp;versionId=2#/../", OLD)], "");
    let (_, lines) = looked_at(move |_| text.clone());
    assert_eq!(lines, [format!("DELETE http://h/b/r/{PACK}?uploadId=1%26versionId%3D2%23%2F..%2F")]);
}

#[test]
fn listings_without_end_and_without_sense_do_no_harm() {
    let none = (Leftovers::default(), Vec::<String>::new());
    for text in [
        "",
        "no XML",
        "<",
        "<a",
        "<a>&unknown;</a>",
        "<a></b>",
        "<ListMultipartUploadsResult><Upload>",
        "<ListMultipartUploadsResult><Upload><Key>a</Key><Key>b</Key></Upload></ListMultipartUploadsResult>",
        "<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><ListMultipartUploadsResult><Upload><Key>&b;</Key></Upload></ListMultipartUploadsResult>",
        "<ListBucketResult><Contents><Key>r/config</Key></Contents></ListBucketResult>",
        "{\"uploads\": []}",
        "\u{0}\u{1b}",
    ] {
        assert_eq!(looked_at(|_| text.to_owned()), none, "{text}");
    }
    let deep = "<a>".repeat(200_000);
    assert_eq!(looked_at(move |_| deep.clone()), none);
    let deep = format!("<r>{}{}</r>", "<a>".repeat(100_000), "</a>".repeat(100_000));
    assert_eq!(looked_at(move |_| deep.clone()), none);
    // Each page leads to another one: that is given up, and what was seen is counted.
    let pages = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&pages);
    let (leftovers, _) = looked_at(move |_| {
        let number = counted.fetch_add(1, Ordering::Relaxed);
        let more = format!("<IsTruncated>true</IsTruncated><NextKeyMarker>{number}</NextKeyMarker>");
        page(&[(&format!("r/{PACK}"), &number.to_string(), YOUNG)], &more)
    });
    assert_eq!((leftovers.there.0, pages.load(Ordering::Relaxed)), (PAGES_MAX as u64, PAGES_MAX));
    // One that leads to itself.
    let pages = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&pages);
    looked_at(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        page(&[], "<IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker>")
    });
    assert_eq!(pages.load(Ordering::Relaxed), 2);
    // More uploads than anybody has.
    let (leftovers, _) = looked_at(move |_| {
        let all: Vec<(String, String)> = (0..2 * FOUND_MAX).map(|n| (format!("r/{PACK}"), n.to_string())).collect();
        let all: Vec<_> = all.iter().map(|(key, id)| (key.as_str(), id.as_str(), YOUNG)).collect();
        page(&all, "")
    });
    assert_eq!(leftovers.there.0, FOUND_MAX as u64);
}

#[test]
fn an_answer_without_end_and_one_that_never_comes_are_left() {
    use std::io::Write;
    let endless = server(|head, stream| {
        let status = if head.starts_with("GET") { "200 OK" } else { "204 No Content" };
        let mut written = stream.write_all(format!("HTTP/1.1 {status}\r\nConnection: close\r\n\r\n<a>").as_bytes());
        while written.is_ok() && head.starts_with("GET") {
            written = stream.write_all(&[b' '; 1 << 16]);
        }
    });
    let ended = s3(endless, impatient()).end_unfinished(&[upload("x")], true);
    assert_eq!((ended.gone, ended.leftovers.removed), (vec![upload("x")], (1, 0)));
    let silent = server(|_, _| std::thread::sleep(Duration::from_secs(20)));
    let begun = Instant::now();
    let ours: Vec<UnfinishedUpload> = (0..50).map(|number| upload(&number.to_string())).collect();
    let ended = s3(silent, impatient()).end_unfinished(&ours, true);
    assert!(begun.elapsed() < Duration::from_secs(5), "the first one ends it: {:?}", begun.elapsed());
    assert_eq!((ended.gone, ended.leftovers.there), (Vec::new(), (50, 0)));
    // Elsewhere nothing is asked.
    let port = server(|_, stream| {
        let head = "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        let _ = stream.write_all(head.as_bytes());
    });
    assert_eq!(s3(port, impatient()).end_unfinished(&[upload("x")], true).gone, []);
}

#[test]
fn what_a_store_says_to_an_abort_decides_whether_it_is_asked_again() {
    for (status, is_gone, removed) in [
        (204, true, 1),
        (200, true, 1),
        (404, true, 0),
        (403, true, 0),
        (405, true, 0),
        (501, true, 0),
        (400, true, 0),
        (429, false, 0),
        (500, false, 0),
        (503, false, 0),
    ] {
        let fake = Fake::new(move |_| (status, String::new()));
        let address = format!("s3://b/r?endpoint=http://h&{KEY}");
        let ended = remote(&address, &[("secret_access_key", "SK")], &fake).end_unfinished(&[upload("x")], false);
        assert_eq!((ended.gone.len() == 1, ended.leftovers.removed.0), (is_gone, removed), "{status}");
        assert_eq!(fake.lines().len(), 1);
    }
}

#[test]
fn b2_is_asked_in_its_own_words() {
    let fake = Fake::new(|request| {
        let body = String::from_utf8(request.body().to_vec()).unwrap();
        let path = request.uri().path();
        // By the clock of the answers these are ten days and one.
        let (old, young) = (OLD.parse::<Timestamp>().unwrap(), "2026-11-29T12:00:00Z".parse::<Timestamp>().unwrap());
        let file = |id: &str, name: &str, at: Timestamp| serde_json::json!({"fileId": id, "fileName": name, "uploadTimestamp": at.as_millisecond(), "more": {}});
        match path {
            "/b2api/v2/b2_authorize_account" => {
                (200, "{\"apiUrl\": \"https://api9.b2.example\", \"authorizationToken\": \"T\"}".to_owned())
            }
            "/b2api/v2/b2_list_unfinished_large_files" if body.contains("startFileId") => {
                let files = [file("4", &format!("a%20b/{PACK}"), old), file("5", "a%20b/photo", old)];
                (200, serde_json::json!({"files": files, "nextFileId": null}).to_string())
            }
            "/b2api/v2/b2_list_unfinished_large_files" => {
                let files = [file("2", &format!("a%20b/{PACK}"), young), file("3", &format!("c/{PACK}"), old)];
                (200, serde_json::json!({"files": files, "nextFileId": "4"}).to_string())
            }
            "/b2api/v2/b2_cancel_large_file" if body.contains("\"1\"") => {
                (400, "{\"code\": \"bad_request\", \"status\": 400}".to_owned())
            }
            "/b2api/v2/b2_cancel_large_file" => (200, "{}".to_owned()),
            _ => (500, String::new()),
        }
    });
    let remote = remote("b2://bucket/a%20b?bucket_id=BI&application_key_id=KI", &[("application_key", "K")], &fake);
    let ended = remote.end_unfinished(&[upload("1")], true);
    let asked = fake.asked();
    let says: Vec<(String, String)> = asked.iter().map(|asked| (asked.url.clone(), asked.body.clone())).collect();
    let api = |name: &str| format!("https://api9.b2.example/b2api/v2/{name}");
    let page = "{\"bucketId\":\"BI\",\"maxFileCount\":100,\"namePrefix\":\"a%20b/\"}";
    let expected = [
        ("https://api.backblazeb2.com/b2api/v2/b2_authorize_account".to_owned(), String::new()),
        (api("b2_cancel_large_file"), "{\"fileId\":\"1\"}".to_owned()),
        (api("b2_list_unfinished_large_files"), page.to_owned()),
        (api("b2_list_unfinished_large_files"), page.replace('}', ",\"startFileId\":\"4\"}")),
        (api("b2_cancel_large_file"), "{\"fileId\":\"4\"}".to_owned()),
    ];
    assert_eq!(says, expected);
    assert_eq!(asked[0].headers["authorization"], "Basic S0k6Sw==");
    assert!(asked[1..].iter().all(|asked| asked.headers["authorization"] == "T" && asked.method == "POST"));
    assert_eq!((ended.gone.len(), ended.leftovers), (1, Leftovers { removed: (1, 0), there: (1, 0) }));
}

/// A token goes nowhere in the clear, and what cannot be read is passed over.
#[test]
fn b2_that_answers_nonsense_is_passed_over() {
    for (authorize, list) in [
        ("{\"apiUrl\": \"http://h\", \"authorizationToken\": \"T\"}", "{}"),
        ("{}", "{}"),
        ("[", "{}"),
        ("{\"apiUrl\": \"https://h\", \"authorizationToken\": \"T\"}", "no JSON"),
        ("{\"apiUrl\": \"https://h\", \"authorizationToken\": \"T\"}", "{\"files\": 7}"),
        ("{\"apiUrl\": \"https://h\", \"authorizationToken\": \"T\\u0000\"}", "{}"),
        (
            "{\"apiUrl\": \"https://h\", \"authorizationToken\": \"T\"}",
            "{\"files\": [{\"fileId\": \"1\"}], \"nextFileId\": \"1\"}",
        ),
    ] {
        let fake = Fake::new(move |request| match request.uri().path() {
            "/b2api/v2/b2_authorize_account" => (200, authorize.to_owned()),
            _ => (200, list.to_owned()),
        });
        let remote = remote("b2://bucket/r?bucket_id=BI&application_key_id=KI", &[("application_key", "K")], &fake);
        let ended = remote.end_unfinished(&[], true);
        assert_eq!(ended, EndedUploads::default(), "{authorize} {list}");
        assert!(
            fake.lines().len() <= 3 && !fake.lines().iter().any(|line| line.contains("http://h")),
            "{:?}",
            fake.lines()
        );
    }
}
