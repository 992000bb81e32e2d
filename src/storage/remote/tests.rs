//! A store that answers as no store should.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::base::stop::{Stop, StopSignal};
use crate::storage::aws_profile::Roles;
use std::collections::BTreeSet;

fn remote(address: &str) -> Remote {
    Remote::open(&Address::parse(address, &[]).unwrap(), &BTreeMap::new(), &Roles::default()).unwrap()
}

#[test]
fn objects_that_are_written_at_once_never_share_a_temporary_name() {
    let remote = remote("webdav://localhost/x");
    let names = Mutex::new(BTreeSet::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..100).for_each(|_| assert!(names.lock().unwrap().insert(remote.temporary("a")))));
        }
    });
    assert_eq!(names.into_inner().unwrap().len(), 400);
    assert_ne!(remote.clone().temporary(""), remote.temporary(""));
}

#[test]
fn http_is_spoken() {
    // Nobody listens there: without a transport the request would not even be tried.
    let mut remote = remote("webdav://localhost/x?endpoint=http://127.0.0.1:1");
    remote.patience.pause = Duration::ZERO;
    let error = remote.length_of("config").unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
}

/// A server of one thread: `answer` gets each connection with what was asked in it.
pub(super) fn server(answer: impl Fn(&str, &mut std::net::TcpStream) + Send + 'static) -> u16 {
    use std::io::{BufRead, BufReader, Read};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut head, mut length) = (String::new(), 0);
            while reader.read_line(&mut head).is_ok_and(|read| read > 2) {
                let line = head.lines().last().unwrap_or_default().to_ascii_lowercase();
                if let Some(value) = line.strip_prefix("content-length: ") {
                    length = value.parse().unwrap();
                }
            }
            // As slowly as a line far away.
            let mut piece = [0; 4_000];
            while length > 0 {
                let read = reader.read(&mut piece[..length.min(4_000)]).unwrap_or_default();
                if read == 0 {
                    break;
                }
                length -= read;
                std::thread::sleep(Duration::from_millis(10));
            }
            answer(&head, &mut stream);
        }
    });
    port
}

pub(super) fn s3(port: u16, patience: Patience) -> Remote {
    let address = format!("s3://bucket/x?endpoint=http://127.0.0.1:{port}&region=r&skip_signature=true");
    let address = Address::parse(&address, &["disable_config_load=true".to_owned()]).unwrap();
    Remote::open_with(&address, &BTreeMap::new(), patience).unwrap()
}

/// Stores of other kinds at the same server.
pub(super) fn others(port: u16, patience: Patience) -> [Remote; 2] {
    let webdav = format!("webdav://h/x?endpoint=http://127.0.0.1:{port}");
    let azure = format!("azblob://c/x?endpoint=http://127.0.0.1:{port}&account_name=a");
    let key = BTreeMap::from([("account_key".to_owned(), "YWJj".to_owned())]);
    [(webdav, BTreeMap::new()), (azure, key)].map(|(address, secrets)| {
        Remote::open_with(&Address::parse(&address, &[]).unwrap(), &secrets, patience).unwrap()
    })
}

pub(super) fn impatient() -> Patience {
    Patience { attempts: 1, answer: Duration::from_millis(400), ..Patience::default() }
}

pub(super) fn name() -> ObjectName {
    ObjectName::Pack(crate::base::id::ObjectId([7; 32]))
}

#[test]
fn nothing_goes_to_another_host_than_the_one_that_was_named() {
    use std::io::Write;
    use std::sync::atomic::AtomicBool;
    let asked = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&asked);
    let elsewhere = server(move |_, _| seen.store(true, Ordering::SeqCst));
    for (header, said) in
        [("", format!("http://127.0.0.1:{elsewhere}/")), ("x-amz-bucket-region: eu-9\r\n", "region eu-9".into())]
    {
        let port = server(move |_, stream| {
            let head = format!(
                "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:{elsewhere}/\r\n{header}Connection: close\r\nContent-Length: 0\r\n\r\n"
            );
            let _ = stream.write_all(head.as_bytes());
        });
        let remote = s3(port, impatient());
        let errors = [
            remote.read(&name(), 10).unwrap_err(),
            remote.replace(&name(), b"bytes").unwrap_err(),
            remote.list_all().unwrap_err(),
        ];
        for error in errors {
            assert!(error.kind == ErrorKind::Refused && error.to_string().contains(&said), "{error}");
        }
    }
    assert!(!asked.load(Ordering::SeqCst), "it was asked");
}

/// The same request goes to another path of the same host, as often as may be; one that would be another request does not.
#[test]
fn a_redirect_on_the_same_host_is_followed() {
    use std::io::Write;
    for (status, is_followed) in [(307, true), (308, true), (302, true), (303, false)] {
        let port = server(move |head, stream| {
            let answer = if head.contains("/moved ") {
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nbytes".to_owned()
            } else {
                format!("HTTP/1.1 {status} Moved\r\nLocation: /moved\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            };
            let _ = stream.write_all(answer.as_bytes());
        });
        let remote = s3(port, impatient());
        assert_eq!(remote.read(&name(), 10).is_ok(), is_followed, "{status}");
        assert_eq!(remote.replace(&name(), b"bytes").is_ok(), is_followed, "{status}");
    }
    let port = server(|_, stream| {
        let head = "HTTP/1.1 307 Moved\r\nLocation: /again\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        let _ = stream.write_all(head.as_bytes());
    });
    let error = s3(port, impatient()).read(&name(), 10).unwrap_err();
    assert!(error.kind == ErrorKind::Refused && error.to_string().contains("redirects without end"), "{error}");
}

/// Objects, pages and reasons without end: each ends when it is longer than what was asked for.
#[test]
fn an_answer_without_end_is_not_read_to_its_end() {
    use std::io::Write;
    let long = "Content-Length: 1099511627776\r\n";
    for (status, length) in [
        ("200 OK", ""),
        ("200 OK", long),
        ("206 Partial Content", long),
        ("403 Forbidden", ""),
        ("403 Forbidden", long),
    ] {
        let port = server(move |_, stream| {
            let head =
                format!("HTTP/1.1 {status}\r\n{length}Connection: close\r\nContent-Type: application/xml\r\n\r\n");
            let more = [b' '; 1 << 16];
            let mut written = stream.write_all(head.as_bytes());
            while written.is_ok() {
                written = stream.write_all(&more);
            }
        });
        let remote = s3(port, impatient());
        let whole = remote.read(&name(), 1_000).unwrap_err();
        let part = remote.read_range(&name(), 5, 1_000).unwrap_err();
        let listing = remote.list_all().unwrap_err();
        let kinds = [whole.kind, part.kind, listing.kind];
        let expected = match (status, length) {
            ("403 Forbidden", _) => [ErrorKind::Denied; 3],
            (_, "") => [ErrorKind::Refused; 3],
            // All of an object is no part of it.
            ("200 OK", _) => [ErrorKind::Length, ErrorKind::Refused, ErrorKind::Refused],
            _ => [ErrorKind::Length, ErrorKind::Length, ErrorKind::Refused],
        };
        assert_eq!(kinds, expected, "{status}: {whole} {part} {listing}");
        for remote in others(port, impatient()) {
            // Its words differ; that it ends is what counts.
            assert!(remote.read(&name(), 1_000).is_err() && remote.read_range(&name(), 5, 1_000).is_err());
            assert!(remote.list_all().is_err());
            assert!(remote.replace(&name(), b"bytes").is_err(), "{status} {remote:?}");
        }
    }
}

/// The connection breaks in the middle, and whoever is asked for the rest sends the whole: that is no damage.
#[test]
fn what_broke_off_goes_on_with_the_right_range_or_not_at_all() {
    use std::io::Write;
    // rclone's server sends a part under the status of a whole.
    for (status, expected) in
        [(Some("206 Partial Content"), None), (Some("200 OK"), None), (None, Some(ErrorKind::Refused))]
    {
        let port = server(move |head, stream| {
            let whole = "0123456789".repeat(10_000);
            let asked = head.lines().find_map(|line| {
                line.to_ascii_lowercase().strip_prefix("range: bytes=")?.split('-').next()?.parse::<usize>().ok()
            });
            match asked.filter(|asked| *asked > 0) {
                Some(from) if status.is_some() => {
                    let (rest, end) = (&whole[from..], whole.len());
                    let head = format!(
                        "HTTP/1.1 {}\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{}/{end}\r\nConnection: close\r\n\r\n",
                        status.unwrap_or_default(),
                        rest.len(),
                        end - 1
                    );
                    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(rest.as_bytes()));
                }
                asked => {
                    let head =
                        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", whole.len());
                    let length = if asked.is_none() { 50_000 } else { whole.len() };
                    let _ =
                        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&whole.as_bytes()[..length]));
                }
            }
        });
        let patience = Patience { attempts: 3, pause: Duration::from_millis(1), ..impatient() };
        let mut read = Vec::new();
        let done = s3(port, patience).stream(&name(), 100_000, &mut |piece| {
            read.extend_from_slice(piece);
            Ok(())
        });
        assert_eq!(done.as_ref().err().map(|error| error.kind), expected, "{done:?}");
        assert!(expected.is_some() || read == "0123456789".repeat(10_000).into_bytes());
    }
}

/// It takes several times as long as nothing may move.
#[test]
fn while_bytes_flow_an_attempt_goes_on() {
    use std::io::Write;
    let port = server(|_, stream| {
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"))
    });
    let bytes = vec![7; 1_600_000];
    let answer = Duration::from_millis(1_200);
    let (sum, patience) = (AtomicU64::new(0), Patience { answer, bytes_per_second: 1 << 16, ..impatient() });
    let moved = |bytes| {
        sum.fetch_add(bytes, Ordering::Relaxed);
    };
    let uplink = Uplink { moved: &moved, ..Uplink::default() };
    s3(port, patience).send(&name(), &Bytes::from(bytes), &uplink).unwrap();
    assert_eq!(sum.into_inner(), 1_600_000);
    // And one in which nothing flows does not.
    let port = server(|_, _| std::thread::sleep(Duration::from_secs(20)));
    let error = s3(port, impatient()).read(&name(), 10).unwrap_err();
    assert!(error.kind == ErrorKind::Unavailable && error.to_string().contains("nothing moved"), "{error}");
}

/// A host's address is asked for by a thread that nothing can end.
#[test]
fn the_end_waits_for_nothing_that_cannot_be_ended() {
    let remote = remote("webdav://localhost/x");
    remote.runtime.spawn_blocking(|| std::thread::sleep(Duration::from_secs(20)));
    std::thread::sleep(Duration::from_millis(50));
    let began = Instant::now();
    drop(remote);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// After an interruption, one that waits for a silent store does not wait long, and nothing but what cleans up is asked.
/// Somebody wants an end.
fn ended() -> StopSignal {
    let stop = StopSignal::new();
    stop.request(Stop::User);
    stop
}

#[test]
fn what_cleans_up_is_asked_after_an_interruption() {
    let asked = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&asked);
    let port = server(move |_, stream| {
        use std::io::Write;
        seen.fetch_add(1, Ordering::SeqCst);
        let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    });
    let remote = s3(port, Patience::default()).ended_by(ended());
    assert_eq!(remote.remove(&name()).unwrap_err().kind, ErrorKind::Interrupted);
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    remote.discard(&name()).unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let port = server(|_, _| std::thread::sleep(Duration::from_secs(20)));
    let remote = s3(port, Patience::default()).ended_by(ended());
    let began = Instant::now();
    assert_eq!(remote.discard(&name()).unwrap_err().kind, ErrorKind::Unavailable);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
