//! Webhooks: requests to servers of others, with a client that keeps connections open.
//!
//! Bounded: [`TRIES`] with a pause between them, [`TIMEOUT`] each, [`ANSWER_BYTES_MAX`] of an
//! answer are read, and a thread holds [`PAUSED_MAX`] calls that wait for another try, or for a turn
//! at their host: when it has as many, it takes no new ones. No redirect is followed.

use super::hosts::Hosts;
use super::roots::Roots;
use super::signature::Signer;
use super::{Call, Counts, addresses};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use shard::{Computed, Webhook};
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};
use tracing::{debug, warn};
use ureq::config::Config;
use ureq::http::header::{HeaderName, HeaderValue};
use ureq::http::{Request, Uri};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Error};

/// The pauses before the second try and before the third.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(4)];
/// The pause until it is seen whether a host has a turn.
const TURN_PAUSE: Duration = Duration::from_millis(50);
/// How often a webhook is called at most.
const TRIES: usize = PAUSES.len() + 1;
/// How long a try may take, from looking the name up to the end of the answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// So much of an answer is read, so that the connection can be used again; nobody looks at it.
const ANSWER_BYTES_MAX: u64 = 65_536;
/// Calls of one thread that wait for another try.
const PAUSED_MAX: usize = 256;
/// Seconds between two warnings that there is no key to sign with.
const COMPLAINT_PAUSE_S: u64 = 60;
/// Connections that are kept for the next call, to all servers and to each.
const IDLE_MAX: usize = 64;
const IDLE_PER_HOST_MAX: usize = 4;

/// What says how a request is carried, which is not for the owner of a device to say.
const CARRIAGE: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// How a try has ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Try {
    /// The other side has taken it.
    Delivered,
    /// It may go better next time.
    Again,
    /// It never will.
    Hopeless,
}

/// What an operator says about webhooks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// They may call addresses that only this machine or its network knows.
    pub may_call_private: bool,
    /// Signs those that are to be signed.
    pub signer: Option<Arc<Signer>>,
    /// Whom they trust over TLS beside the public roots.
    pub roots: Option<Arc<Roots>>,
}

/// Calls webhooks.
pub struct Caller {
    agent: Agent,
    hosts: Hosts,
    signer: Option<Arc<Signer>>,
    /// When it was last said that there is no key, in seconds since 1970.
    complained_s: AtomicU64,
}

impl Caller {
    /// One that keeps to these rules.
    pub fn new(rules: Rules) -> Caller {
        let roots = match &rules.roots {
            Some(roots) => roots.with_public(),
            None => RootCerts::WebPki,
        };
        let config = Config::builder()
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            // Where it leads nobody has looked at.
            .max_redirects(0)
            .max_redirects_will_error(false)
            // A proxy would look the name up by itself.
            .proxy(None)
            .allow_non_standard_methods(true)
            .max_idle_connections(IDLE_MAX)
            .max_idle_connections_per_host(IDLE_PER_HOST_MAX)
            .user_agent(concat!("meshring/", env!("CARGO_PKG_VERSION")))
            .build();
        let resolver = CheckedResolver {
            may_call_private: rules.may_call_private,
            inner: DefaultResolver::default(),
        };
        Caller {
            agent: Agent::with_parts(config, DefaultConnector::new(), resolver),
            hosts: Hosts::default(),
            signer: rules.signer,
            complained_s: AtomicU64::new(0),
        }
    }

    /// Calls once.
    pub fn call(&self, webhook: &Webhook) -> Try {
        let mut request = match request_of(webhook) {
            // An URL or a header that cannot be.
            Err(error) => {
                debug!(%error, "a webhook cannot be called");
                return Try::Hopeless;
            }
            Ok(request) => request,
        };
        if webhook.is_signed {
            let now = SystemTime::now();
            let Some(signer) = &self.signer else {
                // Whoever asked for a signature must not be told anything without one.
                self.complain(now);
                return Try::Hopeless;
            };
            signer.sign(request.headers_mut(), now);
        }
        let sent = match &*webhook.method {
            "GET" => self.agent.run(request.map(|_| ())),
            _ => self.agent.run(request),
        };
        match sent {
            Err(error) => {
                debug!(%error, "a webhook was not delivered");
                judge_error(&error)
            }
            Ok(mut answer) => {
                let status = answer.status().as_u16();
                let body = answer.body_mut();
                // Only so that the connection can be used again.
                let _ = body.with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
                judge_status(status)
            }
        }
    }

    /// Says that there is no key to sign with, now and then.
    fn complain(&self, now: SystemTime) {
        let now = now.duration_since(SystemTime::UNIX_EPOCH);
        let now_s = now.map_or(0, |since| since.as_secs());
        let last = self.complained_s.load(Ordering::Relaxed);
        let is_due = now_s.abs_diff(last) >= COMPLAINT_PAUSE_S;
        let complained = &self.complained_s;
        if is_due
            && complained
                .compare_exchange(last, now_s, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            warn!(
                "a webhook is to be signed and there is no key: it was not called; \
                 set webhooks.private_key_file"
            );
        }
    }
}

fn request_of(webhook: &Webhook) -> Result<Request<&[u8]>, ureq::http::Error> {
    let mut request = Request::builder()
        .method(&*webhook.method)
        .uri(&*webhook.url)
        .body(&webhook.body[..])?;
    let headers = request.headers_mut();
    for (name, value) in &webhook.headers {
        let name: HeaderName = name.parse()?;
        let value: HeaderValue = value.parse()?;
        // Of the same name the last counts.
        if !CARRIAGE.contains(&name.as_str()) {
            // Beyond what a map holds it would panic.
            headers.try_insert(name, value)?;
        }
    }
    Ok(request)
}

fn judge_status(status: u16) -> Try {
    match status {
        200..=299 => Try::Delivered,
        // Request timeout, too early, too many requests.
        408 | 425 | 429 | 500..=599 => Try::Again,
        _ => Try::Hopeless,
    }
}

fn judge_error(error: &Error) -> Try {
    match error {
        Error::Io(error) if error.kind() == ErrorKind::PermissionDenied => Try::Hopeless,
        Error::BadUri(_) | Error::Http(_) | Error::RequireHttpsOnly(_) => Try::Hopeless,
        _ => Try::Again,
    }
}

/// Looks names up, and refuses those of which any address is out of bounds.
#[derive(Debug)]
struct CheckedResolver {
    may_call_private: bool,
    inner: DefaultResolver,
}

impl Resolver for CheckedResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let found = self.inner.resolve(uri, config, timeout)?;
        if self.may_call_private {
            return Ok(found);
        }
        for address in found.iter().map(|address| address.ip()) {
            if !addresses::is_public(address) || addresses::is_own(address) {
                let text = format!("webhooks may not call {address}; see --webhooks-to-private");
                return Err(Error::Io(io::Error::new(ErrorKind::PermissionDenied, text)));
            }
        }
        Ok(found)
    }
}

/// A call that waits for another try.
struct Paused {
    due: Instant,
    call: Call,
    tries: usize,
}

/// Calls what is waiting, until nobody can send any more and nothing is left.
pub(super) fn work(waiting: &Receiver<Call>, caller: &RwLock<Arc<Caller>>, counts: &Counts) {
    let caller = || Arc::clone(&caller.read().unwrap_or_else(PoisonError::into_inner));
    let mut paused: Vec<Paused> = Vec::new();
    let mut is_open = true;
    while is_open || !paused.is_empty() {
        let next = (0..paused.len()).min_by_key(|&at| paused[at].due);
        let due = next.map(|at| paused[at].due);
        if let (Some(at), Some(due)) = (next, due)
            && (due <= Instant::now() || !is_open || paused.len() >= PAUSED_MAX)
        {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let Paused { call, tries, .. } = paused.swap_remove(at);
            paused.extend(try_once(call, tries, &caller(), counts));
            continue;
        }
        let received = match due {
            None => waiting.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(due) => waiting.recv_deadline(due),
        };
        match received {
            Ok(call) => paused.extend(try_once(call, 0, &caller(), counts)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => is_open = false,
        }
    }
}

/// Answers the call, or gives it back to be tried again.
fn try_once(call: Call, tries: usize, caller: &Caller, counts: &Counts) -> Option<Paused> {
    let Some(_turn) = caller.hosts.enter(&call.webhook.url) else {
        let due = Instant::now() + TURN_PAUSE;
        return Some(Paused { due, call, tries });
    };
    let tries = tries + 1;
    let is_delivered = match caller.call(&call.webhook) {
        Try::Delivered => true,
        Try::Again if tries < TRIES => {
            return Some(Paused {
                due: Instant::now() + PAUSES[tries - 1],
                call,
                tries,
            });
        }
        Try::Again | Try::Hopeless => false,
    };
    Counts::add(match is_delivered {
        true => &counts.sent,
        false => &counts.failed,
    });
    call.reply.give(Computed::Called { is_delivered });
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;

    /// Answers each request with the next of these, and gives what it has read; redirects lead
    /// back to itself.
    fn serve(answers: &'static [&'static str]) -> (String, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serving = std::thread::spawn(move || {
            let mut requests = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut head, mut length) = (String::new(), 0);
                while !head.ends_with("\r\n\r\n") {
                    let begin = head.len();
                    assert!(reader.read_line(&mut head).unwrap() > 0);
                    let line = head[begin..].to_ascii_lowercase();
                    if let Some(value) = line.strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                requests.push(head + &String::from_utf8(body).unwrap());
                let rest = format!("\r\nLocation: http://{address}/other\r\nConnection: close");
                write!(
                    stream,
                    "HTTP/1.1 {answer}{rest}\r\nContent-Length: 0\r\n\r\n"
                )
                .unwrap();
            }
            requests
        });
        (format!("http://{address}/hook?a=b"), serving)
    }

    fn anywhere() -> Rules {
        Rules {
            may_call_private: true,
            ..Rules::default()
        }
    }

    fn webhook(url: &str, method: &str) -> Webhook {
        Webhook {
            url: url.into(),
            method: method.into(),
            headers: vec![("X-Meshblu-Uuid".into(), "me".into())],
            body: b"{\"a\":1}".to_vec(),
            is_signed: false,
        }
    }

    #[test]
    fn what_is_sent_is_what_was_asked_for() {
        for method in ["POST", "PUT", "PATCH", "DELETE", "GET"] {
            let (url, serving) = serve(&["200 OK"]);
            assert_eq!(
                Caller::new(anywhere()).call(&webhook(&url, method)),
                Try::Delivered
            );
            let request = &serving.join().unwrap()[0];
            assert!(request.starts_with(&format!("{method} /hook?a=b HTTP/1.1\r\n")));
            assert!(
                request
                    .to_ascii_lowercase()
                    .contains("x-meshblu-uuid: me\r\n")
            );
            assert_eq!(request.ends_with("{\"a\":1}"), method != "GET", "{request}");
        }
    }

    #[test]
    fn the_owner_says_nothing_about_how_it_is_carried() {
        let (url, serving) = serve(&["200 OK"]);
        let mut webhook = webhook(&url, "POST");
        let more = [
            ("Content-Length", "3"),
            ("transfer-encoding", "chunked"),
            ("Host", "elsewhere"),
            ("x-meshblu-uuid", "other"),
        ];
        let more = more.map(|(name, value)| (name.into(), value.into()));
        webhook.headers.extend(more);
        assert_eq!(Caller::new(anywhere()).call(&webhook), Try::Delivered);
        let request = serving.join().unwrap()[0].to_ascii_lowercase();
        assert!(request.ends_with("{\"a\":1}"), "{request}");
        assert!(request.contains("content-length: 7\r\n"), "{request}");
        assert!(request.contains("x-meshblu-uuid: other\r\n"), "{request}");
        for not in ["x-meshblu-uuid: me", "elsewhere", "chunked", "length: 3"] {
            assert!(!request.contains(not), "{request}");
        }
    }

    #[test]
    fn answers_are_judged() {
        for (answer, expected) in [
            ("204 No Content", Try::Delivered),
            // Not followed: the server would wait for another request, and the test with it.
            ("302 Found", Try::Hopeless),
            ("404 Not Found", Try::Hopeless),
            ("429 Too Many Requests", Try::Again),
            ("503 Service Unavailable", Try::Again),
        ] {
            let (url, serving) = serve(Box::leak(Box::new([answer])));
            assert_eq!(
                Caller::new(anywhere()).call(&webhook(&url, "POST")),
                expected
            );
            assert_eq!(serving.join().unwrap().len(), 1, "{answer}");
        }
    }

    #[test]
    fn what_cannot_be_called_is_not() {
        let caller = Caller::new(anywhere());
        for url in ["", "no url", "/path", "ftp://example.org/", "http://"] {
            assert_eq!(caller.call(&webhook(url, "POST")), Try::Hopeless, "{url}");
        }
        let mut bad = webhook("http://127.0.0.1:1/", "POST");
        bad.headers.push(("a\nb".into(), "c".into()));
        assert_eq!(caller.call(&bad), Try::Hopeless);
        bad = webhook("http://127.0.0.1:1/", "POST");
        let many = (0..40_000).map(|number| (format!("x{number}").into(), "".into()));
        bad.headers.extend(many);
        assert_eq!(caller.call(&bad), Try::Hopeless);
        bad = webhook("http://127.0.0.1:1/", "PO ST");
        assert_eq!(caller.call(&bad), Try::Hopeless);
        // Nobody listens: that may change.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
        let url = format!("http://{}/", address.unwrap());
        assert_eq!(caller.call(&webhook(&url, "POST")), Try::Again);
    }

    #[test]
    fn each_try_of_a_signed_webhook_is_signed_anew_and_none_goes_unsigned() {
        let key = include_bytes!("../../tests/support/keys/pkcs8.pem");
        let signer = Some(Arc::new(Signer::read(key).unwrap()));
        let signing = Caller::new(Rules {
            signer,
            ..anywhere()
        });
        let (url, serving) = serve(&["503 Service Unavailable", "200 OK"]);
        let signed = Webhook {
            is_signed: true,
            ..webhook(&url, "POST")
        };
        // Nobody is called, or the server would have one request too many.
        let keyless = Caller::new(anywhere());
        assert_eq!(keyless.call(&signed), Try::Hopeless);
        assert_ne!(keyless.complained_s.load(Ordering::Relaxed), 0);
        assert_eq!(signing.call(&signed), Try::Again);
        // Dates have whole seconds.
        std::thread::sleep(Duration::from_millis(1_100));
        assert_eq!(signing.call(&signed), Try::Delivered);
        let requests = serving.join().unwrap();
        let line = |request: &str, name: &str| -> String {
            let mut lines = request.lines();
            let found = lines.find(|line| line.to_ascii_lowercase().starts_with(name));
            found
                .unwrap_or_else(|| panic!("no {name} in {request}"))
                .to_owned()
        };
        for name in ["date: ", "authorization: signature keyid="] {
            assert_ne!(line(&requests[0], name), line(&requests[1], name));
        }
    }

    #[test]
    fn the_own_machine_is_out_of_bounds_however_it_is_written() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let caller = Caller::new(Rules::default());
        for host in [
            "127.0.0.1",
            "127.1",
            "0x7f000001",
            "2130706433",
            "localhost",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "0.0.0.0",
            "169.254.169.254",
            "user@127.0.0.1",
        ] {
            let url = format!("http://{host}:{port}/");
            assert_ne!(caller.call(&webhook(&url, "POST")), Try::Delivered, "{url}");
            let nobody = listener.accept().map(drop).unwrap_err();
            assert_eq!(nobody.kind(), ErrorKind::WouldBlock, "{url}");
        }
        let literal = webhook(&format!("http://127.0.0.1:{port}/"), "POST");
        assert_eq!(caller.call(&literal), Try::Hopeless);
    }
}
