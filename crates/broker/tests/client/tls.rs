//! The client over TLS, against a server of this test: it trusts whom it is told to trust, and
//! nobody else.

use crate::Folder;
use crate::support::tls;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use tungstenite::Message;

/// A server that lets one script run over the connections it gets.
struct Server {
    folder: Folder,
    certificate: PathBuf,
    script: JoinHandle<()>,
}

type Tls = StreamOwned<ServerConnection, TcpStream>;

/// Where connections come in.
struct Connections {
    listener: TcpListener,
    config: Arc<ServerConfig>,
}

impl Connections {
    /// The next one, encrypted.
    fn next(&self) -> Tls {
        let (tcp, _) = self.listener.accept().unwrap();
        let connection = ServerConnection::new(self.config.clone()).unwrap();
        StreamOwned::new(connection, tcp)
    }
}

impl Server {
    fn start(script: fn(Connections)) -> Server {
        let (config, pem) = tls::server("localhost");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let folder = Folder::new(&format!("https://localhost:{port}"));
        let certificate = folder.path().join("certificate.pem");
        std::fs::write(&certificate, pem).unwrap();
        let connections = Connections { listener, config };
        Server {
            folder,
            certificate,
            script: std::thread::spawn(move || script(connections)),
        }
    }

    /// Runs a command that trusts the certificate, if it is to; exit code, stdout, stderr.
    fn run(self, trusts: bool, words: &[&str]) -> (i32, String, String) {
        let mut command = self.folder.command(words);
        match trusts {
            true => command.env("SSL_CERT_FILE", &self.certificate),
            false => command.env_remove("SSL_CERT_FILE"),
        };
        let output = command.output().unwrap();
        let code = output.status.code().unwrap();
        // Refused before it has connected, the script waits for ever; that is no failure of its own.
        if code != 2 {
            self.script.join().unwrap();
        }
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (code, text(output.stdout), text(output.stderr))
    }
}

/// Reads a request and answers it.
fn answer(stream: &mut Tls, body: &str) {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        request.push(byte[0]);
    }
    let head = String::from_utf8(request).unwrap().to_lowercase();
    let lines = head
        .lines()
        .filter_map(|line| line.strip_prefix("content-length: "));
    let sent: usize = lines.map(|length| length.parse::<usize>().unwrap()).sum();
    stream.read_exact(&mut vec![0; sent]).unwrap();
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all((head + body).as_bytes()).unwrap();
    stream.conn.send_close_notify();
    // The client may be gone already.
    let _ = stream.flush();
}

#[test]
fn https_is_spoken_to_whom_it_trusts() {
    let server = Server::start(|connections| answer(&mut connections.next(), r#"{"online":true}"#));
    let (code, stdout, stderr) = server.run(true, &["status", "-f", "json"]);
    assert_eq!(
        (code, stdout.as_str()),
        (0, "{\"online\":true}\n"),
        "{stderr}"
    );
}

#[test]
fn a_certificate_of_nobody_is_refused() {
    let server = Server::start(|connections| {
        let mut stream = connections.next();
        let read = stream.read(&mut [0; 1]);
        assert!(
            matches!(read, Ok(0) | Err(_)),
            "the client must not send anything"
        );
    });
    let (code, stdout, stderr) = server.run(false, &["status"]);
    // A machine without any certificates trusts nobody either, and says so with 2.
    assert!(code == 3 || code == 2, "{code}: {stderr}");
    assert_eq!(stdout, "");
}

#[test]
fn events_come_over_tls() {
    let server = Server::start(|connections| {
        let mut socket = tungstenite::accept(connections.next()).unwrap();
        let identity = socket.read().unwrap().into_text().unwrap();
        assert!(identity.contains(r#""event":"identity""#) && identity.contains(r#""token":"t""#));
        socket
            .send(Message::text(r#"{"event":"ready","uuid":"u"}"#))
            .unwrap();
        answer(&mut connections.next(), "{}");
        socket
            .send(Message::text(r#"{"event":"broadcast","payload":5}"#))
            .unwrap();
        // The client takes leave.
        assert!(socket.read().unwrap().is_close());
        let _ = socket.flush();
    });
    let line = [
        "-U",
        "u",
        "-T",
        "t",
        "subscribe",
        "e",
        "broadcast.sent",
        "--count",
        "1",
    ];
    let (code, stdout, stderr) = server.run(true, &line);
    assert_eq!(
        (code, stdout.as_str()),
        (0, "{\"event\":\"broadcast\",\"payload\":5}\n"),
        "{stderr}"
    );
}
