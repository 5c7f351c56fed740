//! Questions of an operator reach the shard's thread, also while it sleeps, and so do its answers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use harness::{PATIENCE, config, tuning};
use net::{Console, DriverChoice, Made, StartError, Waker};
use shard::console::{Question, Report};
use shard::{Config, Shard};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

on_both_drivers!(questions_are_answered);

struct Asker {
    questions: Receiver<(u64, Box<Question>)>,
    answers: Sender<(u64, Box<Report>)>,
}

impl Console for Asker {
    fn poll(&mut self) -> Option<(u64, Box<Question>)> {
        self.questions.try_recv().ok()
    }

    fn answer(&mut self, id: u64, report: Box<Report>) {
        self.answers.send((id, report)).unwrap();
    }
}

fn questions_are_answered(driver: DriverChoice) {
    let (ask, questions) = channel();
    let (answers, answered) = channel();
    let (found, waker) = channel::<Waker>();
    let ends = std::sync::Arc::new(std::sync::Mutex::new(Some((questions, answers))));
    let made = net::start_stored(config(driver, 1, tuning()), move |place| {
        let (questions, answers) = ends.lock().unwrap().take().unwrap();
        found.send(place.waker.clone()).unwrap();
        let mut shard = Shard::new(Config::alone(), place.now);
        shard.begin(place.now);
        Ok(Made {
            handler: shard,
            store: None,
            helpers: None,
            console: Some(Box::new(Asker { questions, answers })),
        })
    });
    let server = match made {
        Err(StartError::IoUringRefused(why)) => {
            eprintln!("not tested on io_uring: {why}");
            return;
        }
        made => made.unwrap(),
    };
    let waker = waker.recv().unwrap();
    for id in 0..100 {
        ask.send((id, Box::new(Question::Overview))).unwrap();
        waker.wake();
        let (answered, report) = answered.recv_timeout(PATIENCE).unwrap();
        assert_eq!(answered, id);
        assert!(matches!(*report, Report::Overview(_)), "{report:?}");
        // Now and then it has gone to sleep.
        if id % 10 == 0 {
            thread::sleep(Duration::from_millis(5));
        }
    }
    // More than one turn takes.
    for id in 0..1_000 {
        ask.send((id, Box::new(Question::Overview))).unwrap();
    }
    waker.wake();
    for id in 0..1_000 {
        assert_eq!(answered.recv_timeout(PATIENCE).unwrap().0, id);
    }
    server.stop();
    server.join().unwrap();
}
