//! More requests than the runtime takes.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{PYTHON, RUST, Supervisor};

#[test]
fn beyond_its_places_a_runtime_says_so_soon_and_goes_on() {
    let settings = [
        ("MAX_CONCURRENCY", "2"),
        ("MAX_QUEUE", "2"),
        ("QUEUE_SECONDS", "1"),
    ];
    let python = Supervisor::start(PYTHON, &settings);
    let answers = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let begun = Instant::now();
                    let answer = python.execute("import time\ntime.sleep(2)\nresult = 1");
                    (answer, begun.elapsed())
                })
            })
            .collect();
        calls
            .into_iter()
            .map(|call| call.join().unwrap())
            .collect::<Vec<_>>()
    });
    let (served, refused): (Vec<_>, Vec<_>) =
        answers.iter().partition(|(answer, _)| answer.status == 200);
    assert_eq!((served.len(), refused.len()), (2, 6));
    for (answer, time) in refused {
        assert_eq!(
            (answer.error().0, answer.error().1.as_str()),
            (503, "UNAVAILABLE")
        );
        assert_eq!(answer.headers["retry-after"], "1");
        assert!(*time < Duration::from_millis(1800), "{time:?}");
    }
    assert_eq!(
        python.metric("lambda_runtime_executions_total{language=\"python\",outcome=\"rejected\"}"),
        6.0
    );
    assert_eq!(python.result("result = 2", json!({})), 2);
}

#[test]
fn the_compile_cache_stays_within_its_size() {
    let rust = Supervisor::start(RUST, &[("COMPILE_CACHE_BYTES", "1048576")]);
    for number in 0..4 {
        let script = format!(
            "fn handle(_: Value, _: Value) -> Result<Value, String> {{ Ok(json!({number})) }}"
        );
        assert_eq!(rust.result(&script, json!({})), number);
        let programs = std::fs::read_dir(rust.scratch.join("programs")).unwrap();
        let bytes: u64 = programs
            .map(|program| program.unwrap().metadata().unwrap().len())
            .sum();
        assert!(bytes > 0 && bytes <= 1 << 20, "{bytes}");
    }
    assert!(rust.metric("lambda_runtime_compile_cache_bytes{") <= 1048576.0);
}
