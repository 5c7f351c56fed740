//! Connections: several requests, limits, timeouts, and what makes no sense.

use super::{Answer, Http, nobody};
use crate::support::World;

const STATUS: &str = "GET /status HTTP/1.1\r\nHost: h\r\n\r\n";

fn check_closing(text: &str, status: u16) {
    let world = World::new(1);
    let http = Http::new(&world);
    http.send(text);
    let answers = http.answers(false);
    assert_eq!(answers.len(), 1, "{text:?}");
    answers[0].expect_error(status);
    assert_eq!(answers[0].header("connection"), Some("close"), "{text:?}");
    assert!(http.is_closed(), "{text:?}");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    World::each(|world| {
        let http = Http::new(world);
        let device = http.register("{}");
        let lines = device.lines();
        let (uuid, nobody) = (&device.uuid, nobody());
        let who = format!("GET /whoami HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
        let post = format!(
            "POST /messages HTTP/1.1\r\nHost: h\r\n{lines}Transfer-Encoding: chunked\r\n\r\n\
             10\r\n{{\"devices\":[\"*\"]\r\n1\r\n}}\r\n0\r\n\r\n"
        );
        let missing = format!("GET /devices/{nobody} HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
        let options = "OPTIONS /whoami HTTP/1.1\r\nHost: h\r\n\r\n";
        let all = [&who, &post, STATUS, &missing, options, &who].map(|text| text.to_string());
        let check = |answers: Vec<Answer>| {
            let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
            assert_eq!(statuses, [200, 200, 200, 404, 204, 200]);
            assert_eq!(answers[0].json()["uuid"], **uuid);
            assert_eq!(answers[1].text(), r#"{"sent":true}"#);
            assert_eq!(answers[2].json()["meshblu"], true);
            assert_eq!(answers[5].body, answers[0].body);
        };
        http.send(&all.concat());
        check(http.answers(false));
        http.0.send_split(all.concat().as_bytes());
        check(http.answers(false));
        assert!(!http.is_closed());
    });
}

#[test]
fn requests_that_could_be_read_in_two_ways_are_refused() {
    let post = "POST /messages HTTP/1.1\r\nHost: h\r\n";
    check_closing("GET / HTTP/1.1\nHost: h\n\n", 400);
    check_closing("GET /status HTTP/1.1\r\n\r\n", 400);
    check_closing("nonsense\r\n\r\n", 400);
    check_closing("GET /status HTTP/3.0\r\nHost: h\r\n\r\n", 505);
    check_closing(
        &format!("{post}Content-Length: 1\r\nContent-Length: 1\r\n\r\n1"),
        400,
    );
    let both = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    check_closing(&format!("{post}{both}"), 400);
    check_closing(&format!("{post}Transfer-Encoding: gzip\r\n\r\n"), 501);
    check_closing(&format!("{post}X: {}\r\n\r\n", "x".repeat(20_000)), 431);
    check_closing(
        &format!("{post}Transfer-Encoding: chunked\r\n\r\nx\r\n"),
        400,
    );
    check_closing(&format!("{post}{}\r\n", "A: 1\r\n".repeat(101)), 431);
}

#[test]
fn large_bodies_are_refused_before_they_come() {
    let world = World::new(1);
    let http = Http::new(&world);
    let device = http.register("{}");
    let lines = device.lines();
    let head = format!("POST /messages HTTP/1.1\r\nHost: h\r\n{lines}");
    http.send(&format!("{head}Content-Length: 9000000\r\n\r\n"));
    http.answers(false)[0].expect_error(413);
    assert!(http.is_closed());
    let http = Http::new(&world);
    http.send(&format!(
        "{head}Transfer-Encoding: chunked\r\n\r\n9000000\r\n"
    ));
    http.answers(false)[0].expect_error(413);
    assert!(http.is_closed());
}

#[test]
fn a_message_of_just_the_limit_is_taken() {
    let world = World::new(1);
    let http = Http::new(&world);
    let device = http.register("{}");
    let body = |bytes: usize| {
        let text = "x".repeat(bytes - 2);
        format!(r#"{{"devices":["{}"],"payload":"{text}"}}"#, device.uuid)
    };
    let answer = http.call(&device, "POST", "/messages", &body(1_048_576));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = http.call(&device, "POST", "/messages", &body(1_048_577));
    assert_eq!(answer.expect_error(413), "message too large");
    assert!(
        !http.is_closed(),
        "its body was read, so the next request may come"
    );
}

#[test]
fn a_client_that_waits_for_permission_gets_it_or_an_answer() {
    let world = World::new(2);
    let http = Http::new(&world);
    let device = http.register("{}");
    let expect = "Expect: 100-continue\r\nContent-Length: 15\r\n\r\n";
    let lines = device.lines();
    http.send(&format!(
        "POST /messages HTTP/1.1\r\nHost: h\r\n{lines}{expect}"
    ));
    assert_eq!(http.raw(), "HTTP/1.1 100 Continue\r\n\r\n");
    http.send(r#"{"devices":"*"}"#);
    assert_eq!(http.answers(false)[0].status, 200);
    http.send(&format!("POST /messages HTTP/1.1\r\nHost: h\r\n{expect}"));
    http.answers(false)[0].expect_error(401);
    assert!(http.is_closed(), "nobody knows whether the body will come");
}

#[test]
fn clients_without_keep_alive_are_closed_and_old_ones_are_told() {
    let world = World::new(1);
    let http = Http::new(&world);
    http.send("GET /status HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let answers = http.answers(false);
    assert_eq!(answers[0].header("connection"), Some("keep-alive"));
    http.send("GET /status HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    let answers = http.answers(false);
    assert_eq!(answers[0].header("connection"), Some("close"));
    assert!(http.is_closed());
    let http = Http::new(&world);
    http.send("GET /status HTTP/1.0\r\n\r\n");
    assert_eq!(http.answers(false)[0].status, 200);
    assert!(http.is_closed());
}

#[test]
fn the_last_answer_of_a_connection_waits_for_its_commit_too() {
    let world = World::durable(2);
    world.hold_commits();
    let http = Http::new(&world);
    let lines = "Host: h\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";
    http.send(&format!("POST /devices HTTP/1.1\r\n{lines}"));
    assert_eq!((http.raw().as_str(), http.is_closed()), ("", false));
    for _ in 0..4 {
        world.commit();
    }
    let answers = http.answers(false);
    assert_eq!(answers[0].status, 200);
    assert!(http.is_closed());
}

#[test]
fn head_has_the_length_and_no_body() {
    let world = World::new(1);
    let http = Http::new(&world);
    let got = http.request("GET", "/status", "", "");
    let head = http.request("HEAD", "/status", "", "");
    assert_eq!(head.header("content-length"), got.header("content-length"));
    assert_eq!(
        got.header("content-length"),
        Some(&*got.body.len().to_string())
    );
    assert_eq!(http.request("HEAD", "/messages", "", "").status, 405);
}

#[test]
fn what_comes_too_slowly_is_closed() {
    let world = World::new(1);
    let idle = Http::new(&world);
    idle.request("GET", "/status", "", "");
    let head = Http::new(&world);
    head.request("GET", "/status", "", "");
    head.send("GET /status HT");
    let body = Http::new(&world);
    body.send("POST /devices HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n{");
    let never = Http::new(&world);
    world.advance(21);
    assert!(never.is_closed() && never.raw().is_empty());
    head.answers(false)[0].expect_error(408);
    assert!(head.is_closed());
    assert!(!body.is_closed() && !idle.is_closed());
    world.advance(50);
    body.answers(false)[0].expect_error(408);
    assert!(body.is_closed() && !idle.is_closed());
    world.advance(15);
    assert!(idle.is_closed() && idle.raw().is_empty());
}

#[test]
fn a_client_that_does_not_read_its_answers_is_not_read() {
    let world = World::with_limits(1, |limits| limits.output_bytes_max = 10_000);
    let http = Http::new(&world);
    http.0.stall();
    http.send(&STATUS.repeat(1_000));
    http.0.unstall();
    assert_eq!(http.answers(false).len(), 1_000);
}

#[test]
fn unknown_paths_and_methods_are_told() {
    let world = World::new(1);
    let http = Http::new(&world);
    http.request("GET", "/nowhere", "", "").expect_error(404);
    let answer = http.request("PUT", "/status", "", "{}");
    answer.expect_error(405);
    assert_eq!(answer.header("allow"), Some("GET, HEAD, OPTIONS"));
    http.request("GET", "/devices/%zz", "", "")
        .expect_error(400);
    http.request("GET", "/ws", "", "").expect_error(426);
    let options = http.request("OPTIONS", "/devices/x", "", "");
    assert_eq!(options.status, 204);
    assert_eq!(
        options.header("access-control-allow-methods"),
        Some("GET, HEAD, PUT, PATCH, DELETE, OPTIONS")
    );
    assert_eq!(http.request("OPTIONS", "*", "", "").status, 204);
}

#[test]
fn every_answer_is_for_scripts_of_every_origin() {
    let world = World::new(1);
    let http = Http::new(&world);
    for path in [
        "/status",
        "/nowhere",
        "/whoami",
        "/openapi.json",
        "/metrics",
    ] {
        let answer = http.request("GET", path, "Origin: http://example.org\r\n", "");
        assert_eq!(
            answer.header("access-control-allow-origin"),
            Some("*"),
            "{path}"
        );
        assert!(
            answer
                .header("date")
                .is_some_and(|date| date.ends_with(" GMT"))
        );
    }
}

#[test]
fn a_large_last_answer_is_not_cut_short() {
    let world = World::new(1);
    let http = Http::new(&world);
    let device = http.register(&format!(r#"{{"text":"{}"}}"#, "x".repeat(300_000)));
    let lines = device.lines();
    for is_read in [true, false] {
        let http = Http::new(&world);
        http.0.stall();
        http.send(&format!(
            "GET /whoami HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{lines}\r\n"
        ));
        assert!(
            !http.is_closed(),
            "the driver has seconds to send what is left"
        );
        if is_read {
            http.0.unstall();
            assert!(http.answers(false)[0].body.len() > 300_000);
        } else {
            world.advance(40);
        }
        assert!(http.is_closed());
    }
}

#[test]
fn a_client_that_takes_its_answer_slowly_is_not_idle() {
    let world = World::new(1);
    let http = Http::new(&world);
    let device = http.register(&format!(r#"{{"text":"{}"}}"#, "x".repeat(300_000)));
    http.0.stall();
    let lines = device.lines();
    http.send(&format!("GET /whoami HTTP/1.1\r\nHost: h\r\n{lines}\r\n"));
    world.advance(84);
    assert!(
        !http.is_closed(),
        "idle for 75 s, but its answer is on its way"
    );
    world.advance(20);
    assert!(http.is_closed(), "nothing of it has been taken meanwhile");
}
