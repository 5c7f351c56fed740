//! Sends spans, and says once what stands in the way.

use crate::cpus;
use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::SpanExporter as Otlp;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tracing::{info, warn};
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// How long a collector may take for one request.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of its answer that are read.
const ANSWER_BYTES_MAX: u64 = 64 * 1_024;
/// Causes that are said before one of them has passed.
const CAUSES_MAX: usize = 8;

/// What is known of the way to the collector.
#[derive(Debug, Default)]
pub struct State {
    trouble: Mutex<Trouble>,
    /// The process ends: nobody tries again what has not worked.
    is_last: AtomicBool,
    cpus: OnceLock<Vec<usize>>,
}

/// What is in the way.
#[derive(Debug, Default)]
struct Trouble {
    /// What the last request came to, if that was nothing good.
    latest: Option<String>,
    /// What has been said since it last worked.
    said: Vec<String>,
    lost: u64,
}

impl State {
    /// The thread that sends is to run on these CPUs.
    pub fn run_on(&self, cpus: &[usize]) {
        // Once.
        let _ = self.cpus.set(cpus.to_vec());
    }

    /// The process ends.
    pub fn hurry(&self) {
        self.is_last.store(true, Ordering::Relaxed);
    }

    fn with<T>(&self, work: impl FnOnce(&mut Trouble) -> T) -> T {
        work(&mut self.trouble.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn may_try(&self) -> bool {
        !self.is_last.load(Ordering::Relaxed) || self.with(|trouble| trouble.said.is_empty())
    }

    /// What became of so many spans.
    fn note(&self, spans: usize, result: &OTelSdkResult) {
        let Err(error) = result else {
            let before = self.with(std::mem::take);
            if !before.said.is_empty() {
                info!(lost = before.lost, "traces are sent again");
            }
            return;
        };
        if !self.may_try() {
            // It has been said.
            return;
        }
        let news = self.with(|trouble| {
            trouble.lost += spans as u64;
            let cause = trouble.latest.take().unwrap_or_else(|| error.to_string());
            let is_new = !trouble.said.contains(&cause) && trouble.said.len() < CAUSES_MAX;
            is_new.then(|| {
                trouble.said.push(cause.clone());
                cause
            })
        });
        if let Some(cause) = news {
            warn!(cause, "traces cannot be sent; they are lost until they can");
        }
    }
}

/// Sends requests to the collector, on the calling thread.
#[derive(Debug)]
pub struct Post {
    agent: Agent,
    state: Arc<State>,
    has_moved: AtomicBool,
}

impl Post {
    /// For this address. Errs if it wants TLS and this machine trusts no certificates.
    pub fn new(url: &str, state: Arc<State>) -> Result<Post, String> {
        let mut config = Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            // Credentials in heads are for this address.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("meshring/", env!("CARGO_PKG_VERSION")));
        if url.starts_with("https:") {
            let trusted = cli::api::trusted_certificates().map_err(|error| error.to_string())?;
            let trusted = trusted.iter();
            let trusted = trusted.map(|der| Certificate::from_der(der).to_owned());
            let roots = RootCerts::Specific(Arc::new(trusted.collect()));
            config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
        }
        Ok(Post {
            agent: config.build().new_agent(),
            state,
            has_moved: AtomicBool::new(false),
        })
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        if !self.state.may_try() {
            return Err("given up".into());
        }
        if let Some(cpus) = self.state.cpus.get()
            && !self.has_moved.swap(true, Ordering::Relaxed)
        {
            cpus::run_on(cpus);
        }
        let (head, body) = request.into_parts();
        let answer = self.agent.run(Request::from_parts(head, &body[..]))?;
        let (head, mut body) = answer.into_parts();
        let body = body.with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?;
        Ok(Response::from_parts(head, body.into()))
    }
}

#[async_trait]
impl HttpClient for Post {
    // The library has a thread for this that does nothing else.
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = self.send(request);
        let trouble = match &sent {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("the collector answers {}", answer.status())),
            Err(error) => Some(error.to_string()),
        };
        self.state.with(|state| state.latest = trouble);
        sent
    }
}

/// Exports, and knows how that goes.
#[derive(Debug)]
pub struct Watched {
    inner: Otlp,
    state: Arc<State>,
}

impl Watched {
    /// Around what exports.
    pub fn new(inner: Otlp, state: Arc<State>) -> Watched {
        Watched { inner, state }
    }
}

impl SpanExporter for Watched {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.inner.export(batch).await;
        self.state.note(spans, &result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
