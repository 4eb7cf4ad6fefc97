//! Whatever a request waits for, its answer comes in time.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Answer, NODEJS, PYTHON, RUST, SlowWorker, Supervisor, eventually};

/// The controller gives up 2 s after the limit, and could not say then whether the script ran.
fn in_time(limit: f64, execute: impl FnOnce(&[(&str, &str)]) -> Answer) -> (u16, String) {
    let begun = Instant::now();
    let answer = execute(&[("X-Timeout-Seconds", &limit.to_string())]);
    let time = begun.elapsed().as_secs_f64();
    let (status, _, message) = answer.error();
    assert!(time < limit + 2.0, "{time} s for {limit}: {message}");
    (status, message)
}

#[test]
fn who_waits_for_long_is_answered_before_the_controller_gives_up() {
    let settings = [("MAX_CONCURRENCY", "1"), ("QUEUE_SECONDS", "60")];
    let python = Supervisor::start(PYTHON, &settings);
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| python.execute("import time\ntime.sleep(6)"));
        eventually("it runs", Duration::from_secs(5), || {
            python.metric("lambda_runtime_running{") == 1.0
        });
        let (status, message) = in_time(0.5, |limit| {
            python.execute_with("result = 1", json!({}), limit)
        });
        assert_eq!(status, 503, "{message}");
        // It begins after 6 s of its 5 and a second for waiting, or has as much less time: both are told.
        let sleep = "import time\ntime.sleep(20)";
        let (status, message) = in_time(6.0, |limit| python.execute_with(sleep, json!({}), limit));
        assert_eq!(status, 504, "{message}");
        assert!(
            message.contains("left of its time limit of 6 s"),
            "{message}"
        );
        busy.join().unwrap();
    });
    // A script that has closed its channel at the last moment, and goes on.
    let closes = "import os, time\ntime.sleep(0.8)\nos.closerange(3, 10)\nos.close(1)\nos.close(2)\nwhile True: pass";
    let (status, message) = in_time(1.0, |limit| python.execute_with(closes, json!({}), limit));
    assert!([422, 504].contains(&status), "{status} {message}");
}

#[test]
fn an_interpreter_that_does_not_start_is_told_in_time() {
    let slow = SlowWorker::new(4000);
    let settings = [
        ("WORKER", slow.path.to_str().unwrap()),
        ("WARM_PROCESSES", "0"),
    ];
    let node = Supervisor::start(NODEJS, &settings);
    let (status, message) = in_time(0.5, |limit| node.execute_with("return 1", json!({}), limit));
    assert_eq!(status, 503, "{message}");
    assert!(message.contains("no process was ready"), "{message}");
}

#[test]
fn a_compilation_that_takes_too_long_is_told_in_time() {
    let rust = Supervisor::start(RUST, &[("MAX_TIMEOUT_SECONDS", "120")]);
    let script = |number: usize| {
        let functions: String = (0..6000)
            .map(|index| format!("pub fn f{index}(n: u64) -> Vec<String> {{ (0..n).map(|i| format!(\"{{i}} {{}}\", i * {number} + {index})).collect() }}\n"))
            .collect();
        format!(
            "{functions}fn handle(_: Value, _: Value) -> Result<Value, String> {{ Ok(json!(f0(1))) }}"
        )
    };
    let (status, message) = in_time(1.0, |limit| rust.execute_with(&script(1), json!({}), limit));
    assert_eq!(status, 504, "{message}");
    assert!(message.contains("was not compiled within"), "{message}");
    std::thread::scope(|scope| {
        let compiles = scope.spawn(|| {
            let limit = [("X-Timeout-Seconds", "6")];
            rust.execute_with(&script(2), json!({}), &limit)
        });
        std::thread::sleep(Duration::from_millis(500));
        let (status, message) =
            in_time(1.0, |limit| rust.execute_with(&script(3), json!({}), limit));
        assert_eq!(status, 503, "{message}");
        assert!(message.contains("wait to be compiled"), "{message}");
        compiles.join().unwrap();
    });
}
