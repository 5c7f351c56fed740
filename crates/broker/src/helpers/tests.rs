//! Every task is answered once, whatever becomes of it, and the shard's thread is woken.

use super::*;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::mpsc::{Receiver as Woken, channel};
use std::time::Duration;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn helpers(may_call_private: bool) -> (Box<dyn Helpers>, Woken<()>, Arc<Pool>) {
    let (wake, woken) = channel();
    let rules = Rules {
        may_call_private,
        ..Rules::default()
    };
    let pool = Pool::start(&cpus::usable(), rules).unwrap();
    let helpers = pool.helpers_of(move || {
        let _ = wake.send(());
    });
    (helpers, woken, pool)
}

fn verify(id: u64, secret: &str, hash: &str) -> Compute {
    let task = Task::Verify {
        secret: secret.into(),
        hashes: vec![hash.into()],
        only_known: false,
    };
    Compute { id, task }
}

fn call(id: u64, url: &str) -> Compute {
    let webhook = Webhook {
        url: url.into(),
        method: "POST".into(),
        headers: Vec::new(),
        body: b"{}".to_vec(),
        is_signed: false,
    };
    let task = Task::Call(Box::new(webhook));
    Compute { id, task }
}

/// So many answers, by number, each of which has woken the thread.
fn answers(helpers: &mut dyn Helpers, woken: &Woken<()>, count: usize) -> BTreeMap<u64, String> {
    let mut answers = BTreeMap::new();
    for _ in 0..count {
        woken.recv_timeout(PATIENCE).unwrap();
        let (id, outcome) = helpers.poll().unwrap();
        assert!(answers.insert(id, format!("{outcome:?}")).is_none());
    }
    assert!(helpers.poll().is_none());
    answers
}

#[test]
fn work_is_done_and_answered() {
    let (mut helpers, woken, pool) = helpers(false);
    let hash = bcrypt::hash("secret", 4).unwrap();
    helpers.submit(verify(1, "secret", &hash));
    helpers.submit(verify(2, "guess", &hash));
    helpers.submit(verify(3, "secret", "no hash"));
    helpers.submit(call(4, "http://127.0.0.1:1/"));
    let answers = answers(&mut *helpers, &woken, 4);
    assert_eq!(answers[&1], "Verified(Some(0))");
    assert_eq!(answers[&2], "Verified(None)");
    assert_eq!(answers[&3], "Verified(None)");
    assert_eq!(answers[&4], "Called { is_delivered: false }");
    assert_eq!(pool.counts.failed.load(Ordering::Relaxed), 1);
    assert_eq!(pool.counts.dropped.load(Ordering::Relaxed), 0);
}

#[test]
fn what_is_too_much_is_answered_busy_and_the_rest_in_order() {
    let (mut helpers, woken, pool) = helpers(false);
    let hash = bcrypt::hash("secret", 10).unwrap();
    let wrong = "no hash";
    // Each thread has one that takes long, and so the queue is full before the first is done.
    let threads = cpus::usable().len().clamp(1, VERIFY_THREADS_MAX) as u64;
    for id in 0..threads {
        helpers.submit(verify(id, "guess", &hash));
    }
    let all = threads + VERIFIES_WAITING_MAX as u64 + 100;
    for id in threads..all {
        helpers.submit(verify(id, "x", wrong));
    }
    let answers = answers(&mut *helpers, &woken, all as usize);
    let busy: Vec<u64> = answers
        .iter()
        .filter_map(|(&id, answer)| (answer == "Busy").then_some(id))
        .collect();
    assert!(!busy.is_empty(), "nothing was too much");
    assert_eq!(
        pool.counts.dropped.load(Ordering::Relaxed),
        busy.len() as u64
    );
    // Those that came last.
    assert!(busy[0] >= VERIFIES_WAITING_MAX as u64, "{}", busy[0]);
}

#[test]
fn a_webhook_that_fails_is_tried_again_and_holds_up_nobody() {
    let (mut helpers, woken, pool) = helpers(true);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let serving = std::thread::spawn(move || {
        use std::io::{Read, Write};
        // Not the first time.
        drop(listener.accept().unwrap());
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut buffer = [0; 1_024];
        while !request.ends_with(b"\r\n\r\n{}") {
            let count = stream.read(&mut buffer).unwrap();
            request.extend_from_slice(&buffer[..count]);
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
    });
    helpers.submit(call(1, &url));
    for id in 2..=40 {
        helpers.submit(call(id, "not a URL"));
    }
    let answers = answers(&mut *helpers, &woken, 40);
    assert_eq!(answers[&1], "Called { is_delivered: true }");
    assert_eq!(answers[&40], "Called { is_delivered: false }");
    serving.join().unwrap();
    assert_eq!(pool.counts.sent.load(Ordering::Relaxed), 1);
    assert_eq!(pool.counts.failed.load(Ordering::Relaxed), 39);
}

#[test]
fn a_host_that_never_answers_keeps_nobody_else_waiting() {
    let (mut helpers, woken, _pool) = helpers(true);
    // It takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_url = format!("http://{}/", silent.local_addr().unwrap());
    for id in 0..100 {
        helpers.submit(call(id, &silent_url));
    }
    // The same machine, and another host to whoever counts them.
    let other = TcpListener::bind("127.0.0.2:0").unwrap();
    let other_url = format!("http://{}/", other.local_addr().unwrap());
    let serving = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = other.accept().unwrap();
        let mut request = Vec::new();
        let mut buffer = [0; 1_024];
        while !request.ends_with(b"\r\n\r\n{}") {
            let count = stream.read(&mut buffer).unwrap();
            request.extend_from_slice(&buffer[..count]);
        }
        let answer = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
        stream.write_all(answer).unwrap();
    });
    helpers.submit(call(1_000, &other_url));
    // Before any of the others, though they came first: a try at the silent host takes longer.
    let answers = answers(&mut *helpers, &woken, 1);
    assert_eq!(answers[&1_000], "Called { is_delivered: true }");
    serving.join().unwrap();
}

#[test]
fn webhooks_that_wait_are_bounded_in_bytes() {
    let all = Arc::new(AtomicUsize::new(0));
    let half = CALLS_BYTES_MAX / 2;
    let first = Bytes::take(&all, half).unwrap();
    let second = Bytes::take(&all, half).unwrap();
    assert!(Bytes::take(&all, 1).is_none() && Bytes::take(&all, usize::MAX).is_none());
    drop(first);
    assert!(Bytes::take(&all, 1).is_some());
    drop(second);
    assert_eq!(all.load(Ordering::Relaxed), 0);
}

#[test]
fn what_is_dropped_is_answered() {
    let (sender, answers) = unbounded();
    drop(Reply {
        id: 7,
        answers: sender,
        wake: Arc::new(|| {}),
        is_given: false,
    });
    assert!(matches!(answers.try_recv(), Ok((7, Computed::Busy))));
}
