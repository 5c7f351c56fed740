//! A collector: takes `POST /v1/traces`, decodes the protobuf of OTLP, and keeps what has come.

use crate::support::{PATIENCE, tls};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use rustls::{ServerConnection, StreamOwned};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

/// A span, and who has sent it.
#[derive(Clone, Debug)]
pub struct Found {
    /// As it came.
    pub span: Span,
    resource: Vec<KeyValue>,
}

/// All that has come.
#[derive(Clone, Debug, Default)]
pub struct Got {
    /// In the order in which it came.
    pub spans: Vec<Found>,
    /// The same as text.
    pub text: String,
}

fn find<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    found.value.as_ref()?.value.as_ref()
}

impl Found {
    /// An attribute that is a text.
    #[track_caller]
    pub fn text(&self, key: &str) -> &str {
        match find(&self.span.attributes, key) {
            Some(Value::StringValue(text)) => text,
            other => panic!("{key}: {other:?} in {:?}", self.span),
        }
    }

    /// An attribute that is a number.
    #[track_caller]
    pub fn number(&self, key: &str) -> i64 {
        match find(&self.span.attributes, key) {
            Some(Value::IntValue(number)) => *number,
            other => panic!("{key}: {other:?} in {:?}", self.span),
        }
    }

    /// What is said of its sender.
    pub fn resource(&self, key: &str) -> Option<&str> {
        match find(&self.resource, key)? {
            Value::StringValue(text) => Some(text),
            _ => None,
        }
    }
}

impl Got {
    /// Those of this name.
    pub fn all(&self, name: &str) -> Vec<&Found> {
        let found = self.spans.iter().filter(|found| found.span.name == name);
        found.collect()
    }

    /// The one of this name.
    #[track_caller]
    pub fn one(&self, name: &str) -> &Found {
        let [one] = self.all(name)[..] else {
            panic!("{name}: {}", self.text)
        };
        one
    }
}

#[derive(Default)]
struct Shared {
    got: Mutex<(Got, String)>,
    news: Condvar,
    status: AtomicU16,
    requests: AtomicUsize,
}

/// Takes traces until the test is over.
pub struct Collector {
    port: u16,
    shared: Arc<Shared>,
}

impl Collector {
    /// On a free port of loopback.
    pub fn start() -> Collector {
        Collector::start_as(|stream, shared| {
            let mut stream = BufReader::new(stream);
            while serve(&mut stream, shared) {}
        })
    }

    /// The same with TLS, and the certificate as a file would have it.
    pub fn start_with_tls() -> (Collector, String) {
        let (config, certificate) = tls::server("127.0.0.1");
        let collector = Collector::start_as(move |stream, shared| {
            let tls = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = BufReader::new(StreamOwned::new(tls, stream));
            while serve(&mut stream, shared) {}
        });
        (collector, certificate)
    }

    fn start_as(talk: impl Fn(TcpStream, &Shared) + Send + Sync + 'static) -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        shared.status.store(200, Ordering::Relaxed);
        let (kept, talk) = (Arc::clone(&shared), Arc::new(talk));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (kept, talk) = (Arc::clone(&kept), Arc::clone(&talk));
                std::thread::spawn(move || talk(stream.unwrap(), &kept));
            }
        });
        Collector { port, shared }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From now on answers with this status; keeps only what it answers 200.
    pub fn answer(&self, status: u16) {
        self.shared.status.store(status, Ordering::Relaxed);
    }

    /// Waits for a span of this name; all that has come by then.
    pub fn wait_for(&self, name: &str) -> Got {
        let kept = self.shared.got.lock().unwrap();
        let has_come = |kept: &mut (Got, String)| !kept.0.all(name).is_empty();
        let waited = self
            .shared
            .news
            .wait_timeout_while(kept, PATIENCE, |kept| !has_come(kept));
        let (kept, timeout) = waited.unwrap();
        assert!(!timeout.timed_out(), "no {name} in {}", kept.0.text);
        kept.0.clone()
    }

    /// Waits for so many requests.
    pub fn wait_for_requests(&self, count: usize) {
        let kept = self.shared.got.lock().unwrap();
        let is_short = |_: &mut _| self.shared.requests.load(Ordering::Relaxed) < count;
        let waited = self
            .shared
            .news
            .wait_timeout_while(kept, PATIENCE, is_short);
        assert!(
            !waited.unwrap().1.timed_out(),
            "fewer than {count} requests"
        );
    }

    /// The heads of all requests.
    pub fn heads(&self) -> String {
        self.shared.got.lock().unwrap().1.clone()
    }
}

/// Takes one request; whether there may be more.
fn serve(stream: &mut BufReader<impl Read + Write>, shared: &Shared) -> bool {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).unwrap_or(0) == 0 {
            return false;
        }
    }
    let value = |name: &str| {
        let line = head
            .lines()
            .find(|line| line.to_ascii_lowercase().starts_with(name));
        line.and_then(|line| line.split_once(": "))
            .map(|(_, value)| value)
    };
    assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
    assert_eq!(value("content-type:"), Some("application/x-protobuf"));
    let mut body = vec![0; value("content-length:").unwrap().parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    let request = ExportTraceServiceRequest::decode(&body[..]).unwrap();
    let status = shared.status.load(Ordering::Relaxed);
    let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
    let mut kept = shared.got.lock().unwrap();
    kept.1.push_str(&head);
    shared.requests.fetch_add(1, Ordering::Relaxed);
    if status == 200 {
        kept.0.text.push_str(&format!("{request:?}"));
        kept.0.spans.extend(spans(request));
    }
    drop(kept);
    shared.news.notify_all();
    let stream = stream.get_mut();
    stream.write_all(answer.as_bytes()).is_ok() && stream.flush().is_ok()
}

fn spans(request: ExportTraceServiceRequest) -> Vec<Found> {
    let mut found = Vec::new();
    for part in request.resource_spans {
        let resource = part.resource.unwrap_or_default().attributes;
        for span in part.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let resource = resource.clone();
            found.push(Found { span, resource });
        }
    }
    found
}
