//! Asks a broker's admin API: over its Unix socket, or over the network with the token.

use super::arguments::Desk;
use crate::admin::token;
use cli::Failure;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::io::ErrorKind;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;

/// How long a connection, and then an answer, may take to come.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of the largest answer.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A broker that can be asked.
pub struct Broker {
    runtime: Runtime,
    desk: Desk,
    token: Option<String>,
}

impl Broker {
    /// Reads the token, if one is needed.
    pub fn new(desk: &Desk) -> Result<Broker, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::Nonsense(format!("no runtime: {error}")))?;
        let token = match &desk.admin {
            None => None,
            Some(_) => {
                let path = desk.token_file()?;
                let token = token::read(&path).map_err(|error| {
                    let path = path.display();
                    Failure::Usage(format!("cannot read the token in {path}: {error}"))
                })?;
                Some(token)
            }
        };
        Ok(Broker {
            runtime,
            desk: desk.clone(),
            token,
        })
    }

    /// A request whose answer is JSON.
    pub fn json(
        &self,
        method: Method,
        target: &str,
        body: Option<Value>,
    ) -> Result<Value, Failure> {
        let bytes = self.bytes(method, target, body)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Failure::Nonsense(format!("the broker's answer is no JSON: {error}")))
    }

    /// A request whose answer is whatever it is.
    pub fn bytes(
        &self,
        method: Method,
        target: &str,
        body: Option<Value>,
    ) -> Result<Vec<u8>, Failure> {
        self.runtime.block_on(async {
            let response = self.send(method, target, body).await?;
            read(response).await
        })
    }

    /// A request whose answer is lines of JSON without an end; each object is given away as it
    /// comes.
    pub fn follow(
        &self,
        target: &str,
        mut give: impl FnMut(Value) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.runtime.block_on(async {
            let response = self.send(Method::GET, target, None).await?;
            if !response.status().is_success() {
                return read(response).await.map(|_| ());
            }
            let mut body = response.into_body();
            let mut rest: Vec<u8> = Vec::new();
            while let Some(frame) = in_time_option(body.frame()).await? {
                let frame = frame.map_err(|error| Failure::Unreachable(error.to_string()))?;
                rest.extend_from_slice(&frame.into_data().unwrap_or_default());
                while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    if let Ok(value @ Value::Object(_)) = serde_json::from_slice(&line) {
                        give(value)?;
                    }
                }
                if rest.len() > ANSWER_BYTES_MAX {
                    return Err(Failure::Nonsense("a line is too long".to_owned()));
                }
            }
            Err(Failure::Unreachable(
                "the broker has ended the stream".to_owned(),
            ))
        })
    }

    async fn send(
        &self,
        method: Method,
        target: &str,
        body: Option<Value>,
    ) -> Result<Response<Incoming>, Failure> {
        let mut request = Request::builder().method(method).uri(target);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let bytes = body.map(|body| body.to_string()).unwrap_or_default();
        let wrong = |error: hyper::http::Error| Failure::Usage(error.to_string());
        match &self.desk.admin {
            Some(address) => {
                let address = address.strip_prefix("http://").unwrap_or(address);
                let address = address.trim_end_matches('/');
                let request = request.header(HOST, address);
                let request = request.body(Full::from(bytes)).map_err(wrong)?;
                let stream = in_time(TcpStream::connect(address)).await;
                let stream = stream.map_err(|why| unreachable(&format!("{address}: {why}")))?;
                exchange(stream, request).await
            }
            None => {
                let request = request.header(HOST, "localhost");
                let request = request.body(Full::from(bytes)).map_err(wrong)?;
                let stream = self.socket().await?;
                exchange(stream, request).await
            }
        }
    }

    /// Connects to the first socket at which somebody answers.
    async fn socket(&self) -> Result<UnixStream, Failure> {
        let places = self.desk.sockets()?;
        let mut failures = Vec::new();
        for place in &places {
            let name = place.to_string();
            let connected = match place.short() {
                Ok((short, _open)) => {
                    let connected =
                        tokio::time::timeout(PATIENCE, UnixStream::connect(short)).await;
                    connected.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
                }
                Err(error) => Err(error),
            };
            match connected {
                Ok(stream) => {
                    if let Some(failure) = failures.last() {
                        eprintln!("nobody answers at {failure}; asking at {name}");
                    }
                    return Ok(stream);
                }
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    return Err(forbidden(&name));
                }
                Err(error) => failures.push(format!("{name}: {error}")),
            }
        }
        Err(unreachable(&failures.join("; nor at ")))
    }
}

fn unreachable(where_and_why: &str) -> Failure {
    Failure::Unreachable(format!("no broker answers at {where_and_why}"))
}

fn forbidden(place: &str) -> Failure {
    let remedy = "run this as root, or as the user that the broker runs as";
    Failure::Unreachable(format!("{place} is not for you to open: {remedy}"))
}

async fn in_time<T, E: ToString>(work: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err("it takes too long".to_owned()),
    }
}

async fn exchange<S>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |why: String| Failure::Unreachable(format!("the broker does not answer: {why}"));
    let shaken = in_time(http1::handshake(TokioIo::new(stream))).await;
    let (mut sender, connection) = shaken.map_err(broken)?;
    tokio::spawn(connection);
    in_time(sender.send_request(request)).await.map_err(broken)
}

/// The body of a success; errs with what the broker says of a failure.
async fn read(response: Response<Incoming>) -> Result<Vec<u8>, Failure> {
    let status = response.status();
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(frame) = in_time_option(body.frame()).await? {
        let frame = frame.map_err(|error| Failure::Unreachable(error.to_string()))?;
        bytes.extend_from_slice(&frame.into_data().unwrap_or_default());
        if bytes.len() > ANSWER_BYTES_MAX {
            return Err(Failure::Nonsense("the answer is too long".to_owned()));
        }
    }
    if status.is_success() {
        return Ok(bytes);
    }
    let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let said = answer["error"].as_str().map(str::to_owned);
    let said = said.unwrap_or_else(|| String::from_utf8_lossy(&bytes).trim().to_owned());
    Err(Failure::Refused {
        status: status.as_u16(),
        said: super::table::printable(&said),
    })
}

async fn in_time_option<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    tokio::time::timeout(PATIENCE, work)
        .await
        .map_err(|_| Failure::Unreachable("the answer takes too long".to_owned()))
}

/// A text as part of a path or a query.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for &byte in text.as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                quoted.push(char::from(byte));
            }
            _ => quoted.push_str(&format!("%{byte:02X}")),
        }
    }
    quoted
}

/// A path with a query of what is given.
pub fn with_query(path: &str, given: &[(&str, Option<String>)]) -> String {
    let mut target = path.to_owned();
    let mut separator = '?';
    for (name, value) in given {
        if let Some(value) = value {
            target.push_str(&format!("{separator}{name}={}", quoted(value)));
            separator = '&';
        }
    }
    target
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_quoted() {
        assert_eq!(quoted("a/b +#é"), "a%2Fb%20%2B%23%C3%A9");
        let given = [
            ("a", None),
            ("b", Some("x&y".to_owned())),
            ("c", Some(String::new())),
        ];
        assert_eq!(with_query("/p", &given), "/p?b=x%26y&c=");
        assert_eq!(with_query("/p", &given[..1]), "/p");
    }
}
