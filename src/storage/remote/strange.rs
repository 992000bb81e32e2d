//! Answers that are none of such a store: each service gets each, and none is an empty listing, a panic, or worth a second try.
#![allow(clippy::unwrap_used)]

use super::tests::{impatient, name, others, s3, server};
use super::*;
use std::io::Write;
use std::sync::atomic::AtomicUsize;

const PORTAL: &str =
    "<!DOCTYPE html>\n<html><head><TITLE> Hotel  Wi-Fi </TITLE></head><body><p>Log in<br></body></html>";
const EMPTY_S3: &str = "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><IsTruncated>false</IsTruncated></ListBucketResult>";
const EMPTY_AZURE: &str = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ServiceEndpoint=\"http://h/\" ContainerName=\"c\"><Blobs /><NextMarker /></EnumerationResults>";
const EMPTY_DAV: &str = "<D:multistatus xmlns:D=\"DAV:\"><D:response><D:href>/x/</D:href><D:propstat><D:status>HTTP/1.1 200 OK</D:status><D:prop><D:getlastmodified>Sun, 29 Nov 2026 12:00:00 GMT</D:getlastmodified><D:resourcetype><D:collection/></D:resourcetype></D:prop></D:propstat></D:response></D:multistatus>";

/// A server that gives every question about names this answer, and everything else a web page.
fn answering(status: &'static str, kind: &'static str, body: String) -> u16 {
    server(move |head, stream| {
        let is_question = head.starts_with("PROPFIND") || head.lines().next().unwrap_or_default().contains('?');
        let (kind, body) = if is_question { (kind, body.as_str()) } else { ("text/html", PORTAL) };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
    })
}

/// One of each service that is tried here.
fn stores(port: u16) -> [Remote; 3] {
    let [dav, azure] = others(port, impatient());
    [s3(port, impatient()), azure, dav]
}

fn s3_page(keys: &[&str]) -> String {
    let object = |key: &&str| {
        format!(
            "<Contents><Key>{key}</Key><LastModified>2026-11-29T12:00:00.000Z</LastModified><Size>7</Size></Contents>"
        )
    };
    format!(
        "<ListBucketResult><IsTruncated>false</IsTruncated>{}</ListBucketResult>",
        keys.iter().map(object).collect::<String>()
    )
}

fn azure_page(names: &[&str]) -> String {
    let blob = |name: &&str| {
        format!(
            "<Blob><Name>{name}</Name><Properties><Content-Length>7</Content-Length><Last-Modified>Sun, 29 Nov 2026 12:00:00 GMT</Last-Modified></Properties></Blob>"
        )
    };
    format!(
        "<EnumerationResults><Blobs>{}</Blobs><NextMarker/></EnumerationResults>",
        names.iter().map(blob).collect::<String>()
    )
}

fn dav_page(paths: &[&str]) -> String {
    let response = |path: &&str| {
        format!(
            "<d:response><d:href>{path}</d:href><d:propstat><d:status>HTTP/1.1 200 OK</d:status><d:prop><d:getcontentlength>7</d:getcontentlength><d:getlastmodified>Sun, 29 Nov 2026 12:00:00 GMT</d:getlastmodified><d:resourcetype/></d:prop></d:propstat></d:response>"
        )
    };
    format!("<d:multistatus xmlns:d=\"DAV:\">{}</d:multistatus>", paths.iter().map(response).collect::<String>())
}

#[test]
fn what_is_no_listing_is_no_empty_one() {
    let cut = |text: &str| text[..text.len() - 20].to_owned();
    let deep = "<a>".repeat(100_000);
    for (kind, body, words) in [
        ("text/html", PORTAL.to_owned(), "a web page (\"Hotel Wi-Fi\")"),
        ("application/xml", PORTAL.to_owned(), "a web page (\"Hotel Wi-Fi\")"),
        ("text/html", "<html></html>".to_owned(), "a web page"),
        ("text/html", "<p>welcome".to_owned(), "(<p>)"),
        ("application/xml", String::new(), "nothing"),
        ("application/xml", " \n".to_owned(), "nothing"),
        ("application/json", "{\"items\": []}".to_owned(), "JSON of another kind"),
        ("application/json", "[]".to_owned(), "JSON of another kind"),
        ("text/plain", "OK".to_owned(), "\"OK\""),
        ("text/plain", "\u{1b}[2J\u{202e}".to_owned(), "\\"),
        ("application/xml", "<Portal><Contents/></Portal>".to_owned(), "(<Portal>)"),
        ("application/xml", "<Enumeration".to_owned(), "<Enumeration"),
        ("application/xml", deep, "(<a>)"),
        ("application/xml", "<!DOCTYPE x [<!ENTITY a \"b\">]><x>&a;</x>".to_owned(), "(<x>)"),
        (
            "application/xml",
            "<Error><Code>AccessDenied</Code><Message>No.</Message></Error>".to_owned(),
            "AccessDenied No.",
        ),
    ] {
        for store in stores(answering("200 OK", kind, body.clone())) {
            let error = store.list_all().unwrap_err();
            assert_eq!(error.kind, ErrorKind::Refused, "{store:?} {error}");
            let said = error.to_string();
            assert!(said.contains(words) && !said.contains('\u{1b}') && said.len() < 400, "{store:?} {said}");
        }
    }
    // One service's answer is none of another's, and what breaks off may come whole the next time.
    let pages = [EMPTY_S3, EMPTY_AZURE, EMPTY_DAV];
    for (theirs, page) in pages.iter().enumerate() {
        for (ours, store) in stores(answering("200 OK", "application/xml", (*page).to_owned())).iter().enumerate() {
            let listed = store.list_all();
            assert_eq!(listed.is_ok(), theirs == ours, "{store:?} {listed:?}");
            assert!(listed.as_ref().err().is_none_or(|error| error.kind == ErrorKind::Refused), "{listed:?}");
        }
        let broken = &stores(answering("200 OK", "application/xml", cut(page)))[theirs];
        let error = broken.list_all().unwrap_err();
        assert!(error.kind == ErrorKind::Unavailable && error.to_string().contains("breaks off"), "{error}");
    }
    let failing = "<Error><Code>InternalError</Code></Error>".to_owned();
    let error = s3(answering("200 OK", "application/xml", failing), impatient()).list_all().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
}

#[test]
fn a_name_from_elsewhere_is_refused_and_nothing_panics() {
    let pack = name().to_string();
    let ours = format!("x/{pack}");
    let there = |store: &Remote| store.list_all().map(|(objects, _)| objects.len());
    for (key, is_ours) in [
        (ours.as_str(), true),
        // A folder as a console makes one.
        ("x/", true),
        ("", false),
        ("x", false),
        ("y", false),
        ("\u{e4}\u{e4}", false),
        ("yy/config", false),
        ("/x/config", false),
    ] {
        let [s3, azure, _] = stores(answering("200 OK", "application/xml", s3_page(&[&ours, key])));
        assert!(azure.list_all().is_err());
        let listed = there(&s3);
        assert_eq!(listed.is_ok(), is_ours, "{key}: {listed:?}");
        let [_, azure, _] = stores(answering("200 OK", "application/xml", azure_page(&[&ours, key])));
        let listed = there(&azure);
        assert_eq!(listed.is_ok(), is_ours, "{key}: {listed:?}");
        assert!(listed.as_ref().err().is_none_or(|error| error.kind == ErrorKind::Refused), "{listed:?}");
    }
    for path in
        ["", "/", "x", "/y", "/x", "//x/", "/%", "/x%ff", "http://127.0.0.1/x/config", "../x/config", "/\u{e4}", "/X/"]
    {
        let [_, _, dav] = stores(answering("207 Multi-Status", "application/xml", dav_page(&[path])));
        let error = dav.list_all().unwrap_err();
        assert_eq!(error.kind, ErrorKind::Refused, "{path}: {error}");
    }
    let [_, _, dav] =
        stores(answering("207 Multi-Status", "application/xml", dav_page(&["/x/config", "/x/a%20b", "/x/%ff"])));
    let (_, strays) = dav.list_all().unwrap();
    assert_eq!(strays.len(), 2, "{strays:?}");
    // What nobody foresaw is a failure of that request.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let broken = runtime.block_on(caught(async {
        tokio::task::yield_now().await;
        let nothing: [u8; 0] = [];
        Ok(nothing[std::hint::black_box(3)])
    }));
    let (kind, _, words) = reading_of("s3", "list", &broken.unwrap_err(), None);
    assert!(kind == ErrorKind::Refused && words.contains("index out of bounds"), "{words}");
}

#[test]
fn a_web_page_is_no_object() {
    for store in stores(answering("200 OK", "text/html", PORTAL.to_owned())) {
        for error in [
            store.read(&name(), 1_000).unwrap_err(),
            store.read_range(&name(), 0, 50).unwrap_err(),
            store.length(&name()).unwrap_err(),
        ] {
            assert_eq!(error.kind, ErrorKind::Refused, "{store:?} {error}");
            assert!(error.to_string().contains("a web page"), "{error}");
        }
    }
    // One whose length is not said.
    let port = server(|_, stream| {
        let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n";
        let _ = stream.write_all(head).and_then(|()| stream.write_all(PORTAL.as_bytes()));
    });
    for store in stores(port) {
        let error = store.read(&name(), 1_000).unwrap_err();
        assert!(error.kind == ErrorKind::Refused && error.to_string().contains("a web page"), "{error}");
    }
    // Bytes under the same label are bytes.
    let port = server(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nbytes");
    });
    for store in stores(port) {
        assert_eq!(store.read(&name(), 10).unwrap(), b"bytes");
    }
}

/// S3 and Azure have an empty listing for what is not there: that the whole is missing is another matter.
#[test]
fn what_is_not_found_is_an_empty_listing_only_where_there_are_folders() {
    let missing = |body: &str, kind: &'static str| stores(answering("404 Not Found", kind, body.to_owned()));
    for (body, kind) in [
        ("<Error><Code>NoSuchBucket</Code></Error>", "application/xml"),
        ("<Error><Code>NoSuchKey</Code></Error>", "application/xml"),
        ("", "text/plain"),
        (PORTAL, "text/html"),
    ] {
        let [s3, azure, dav] = missing(body, kind);
        for store in [s3, azure] {
            let error = store.list_all().unwrap_err();
            assert!(matches!(error.kind, ErrorKind::Refused | ErrorKind::Denied), "{store:?} {body}: {error}");
        }
        // A page that says so is looked at twice: a server of WebDAV names itself.
        assert_eq!(dav.list_all().is_ok(), body != PORTAL, "{body}");
    }
    let asked = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&asked);
    let port = server(move |head, stream| {
        let dav = if head.starts_with("OPTIONS") { "DAV: 1\r\n" } else { "" };
        seen.fetch_add(1, Ordering::Relaxed);
        let head = format!(
            "HTTP/1.1 404 Not Found\r\n{dav}Content-Type: text/html\r\nContent-Length: 13\r\nConnection: close\r\n\r\n<html></html>"
        );
        let _ = stream.write_all(head.as_bytes());
    });
    let [_, _, dav] = stores(port);
    assert_eq!(dav.list_all().unwrap().0.len(), 0);
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

/// Services whose listings are JSON: only the form is looked at here, OpenDAL's own reading comes after it.
#[test]
fn a_listing_in_json_has_its_fields() {
    let settings = BTreeMap::from([("root".to_owned(), "/x".to_owned()), ("bucket".to_owned(), "b".to_owned())]);
    for (scheme, body, is_one) in [
        ("gcs", "{\"kind\": \"storage#objects\"}", true),
        ("gcs", "{\"items\": [{\"name\": \"x/config\"}]}", true),
        ("gcs", "{\"items\": [{\"name\": \"config\"}]}", false),
        ("gcs", "{\"items\": [{}]}", false),
        ("gcs", "{}", false),
        ("gcs", "[]", false),
        ("gcs", PORTAL, false),
        ("b2", "{\"files\": [], \"nextFileName\": null}", true),
        ("b2", "{\"files\": [{\"fileName\": \"x/config\"}]}", true),
        ("b2", "{\"files\": [{\"fileName\": \"x\"}]}", false),
        ("b2", "{\"code\": \"ok\"}", false),
        ("gdrive", "{\"files\": []}", true),
        ("gdrive", "{}", false),
        ("gdrive", PORTAL, false),
    ] {
        let answers = Answers::of(scheme, &settings).unwrap();
        let checked = answers.check_listing(body.as_bytes(), true);
        assert_eq!(checked.is_ok(), is_one, "{scheme} {body}: {checked:?}");
    }
    let answers = Answers::of("b2", &settings).unwrap();
    let cut = answers.check_listing(b"{\"files\": [{\"fileN", true).unwrap_err();
    assert!(cut.to_string().contains("breaks off"), "{cut}");
    for (scheme, method, address, is_listing) in [
        ("s3", "GET", "http://h/b?list-type=2&prefix=x%2F", true),
        ("s3", "GET", "http://h/b?prefix=x%2F", true),
        ("s3", "GET", "http://h/b", true),
        ("s3", "GET", "http://b.h/", true),
        ("s3", "GET", "http://h/b?uploads&prefix=x%2F", false),
        ("s3", "GET", "http://169.254.169.254/latest/meta-data/iam/security-credentials/", false),
        ("s3", "GET", "http://h/b/x/config", false),
        ("s3", "PUT", "http://h/b/x/config", false),
        ("azblob", "GET", "http://h/c?restype=container&comp=list&prefix=x", true),
        ("azblob", "GET", "http://h/c/x/config?comp=blocklist", false),
        ("gcs", "GET", "http://h/storage/v1/b/b/o?prefix=x", true),
        ("gcs", "GET", "http://h/storage/v1/b/b/o/x%2Fconfig?alt=media", false),
        ("b2", "GET", "http://h/b2api/v2/b2_list_file_names?bucketId=1", true),
        ("b2", "GET", "http://h/b2api/v2/b2_authorize_account", false),
        ("gdrive", "GET", "http://h/drive/v3/files?q=x", true),
        ("gdrive", "GET", "http://h/drive/v3/files/1?alt=media", false),
        ("webdav", "PROPFIND", "http://h/x/", true),
        ("webdav", "GET", "http://h/x/config", false),
    ] {
        let (method, address) = (method.parse().unwrap(), address.parse().unwrap());
        let answers = Answers::of(scheme, &settings).unwrap();
        assert_eq!(answers.is_listing(&method, &address, true), is_listing, "{scheme} {method} {address}");
    }
}
