//! What a script prints: the answer has its end where it is asked for, and the log its lines.

use serde_json::{Value, json};

use crate::harness::{NODEJS, PYTHON, RUST, Supervisor};

const TAIL: [(&str, &str); 1] = [("X-Log-Type", "tail")];

fn logs(supervisor: &Supervisor, script: &str) -> Value {
    let answer = supervisor.execute_with(script, json!({}), &TAIL);
    answer.json()["logs"].clone()
}

#[test]
fn the_answer_has_the_end_of_what_was_printed_where_it_is_asked_for() {
    let node = Supervisor::start(NODEJS, &[]);
    let python = Supervisor::start(PYTHON, &[]);
    let rust = Supervisor::start(RUST, &[]);
    let loud = [
        (
            &node,
            "console.log('one'); console.error('two'); process.stdout.write('é'); return 1",
        ),
        (
            &python,
            "import sys\nprint('one')\nprint('two', file=sys.stderr)\nprint('é', end='')\nresult = 1",
        ),
        (
            &rust,
            "fn handle(_: Value, _: Value) -> Result<Value, String> \
             { println!(\"one\"); eprintln!(\"two\"); print!(\"é\"); Ok(json!(1)) }",
        ),
    ];
    for (runtime, script) in loud {
        let answer = runtime.execute_with(script, json!({}), &TAIL);
        assert_eq!(
            (answer.status, answer.json()["logs"].as_str()),
            (200, Some("one\ntwo\né")),
            "{}",
            answer.body
        );
        let silent = runtime.execute(script).json();
        assert_eq!(silent.get("logs"), None);
    }
    let quiet = [
        (&node, "return 1"),
        (&python, "result = 1"),
        (
            &rust,
            "fn handle(_: Value, _: Value) -> Result<Value, String> { Ok(json!(1)) }",
        ),
    ];
    for (runtime, script) in quiet {
        assert_eq!(logs(runtime, script), "");
    }

    let unknown = node.execute_with("return 1", json!({}), &[("X-Log-Type", "all")]);
    let (status, code, message) = unknown.error();
    assert_eq!((status, code.as_str()), (400, "INVALID_REQUEST"));
    assert!(
        message.contains("X-Log-Type") && message.contains("tail"),
        "{message}"
    );
}

#[test]
fn what_fails_says_what_it_had_printed() {
    let node = Supervisor::start(NODEJS, &[]);
    let python = Supervisor::start(PYTHON, &[]);
    let rust = Supervisor::start(RUST, &[]);
    let cases = [
        (&node, "console.log('before'); throw new Error('no')", 422),
        (&node, "console.log('before'); process.exit(3)", 422),
        (&node, "console.log('before'); for (;;);", 504),
        (&python, "print('before')\nraise ValueError('no')", 422),
        (&python, "print('before')\nimport os\nos._exit(3)", 422),
        (&python, "print('before')\nwhile True: pass", 504),
        (
            &rust,
            "fn handle(_: Value, _: Value) -> Result<Value, String> { println!(\"before\"); Err(\"no\".into()) }",
            422,
        ),
        (
            &rust,
            "fn handle(_: Value, _: Value) -> Result<Value, String> { println!(\"before\"); std::process::abort() }",
            422,
        ),
    ];
    for (runtime, script, status) in cases {
        let headers = [TAIL[0], ("X-Timeout-Seconds", "4")];
        let answer = runtime.execute_with(script, json!({}), &headers);
        assert_eq!(answer.status, status, "{}", answer.body);
        assert_eq!(answer.json()["logs"], "before\n", "{script}");
    }
    // Nothing was printed by a script that did not run.
    let refused = rust.execute_with("fn handle(", json!({}), &TAIL);
    assert_eq!((refused.status, &refused.json()["logs"]), (422, &json!("")));
}

#[test]
fn only_the_end_is_told_and_nothing_of_the_execution_before() {
    let python = Supervisor::start(PYTHON, &[]);
    let script = "
import builtins
builtins.count = getattr(builtins, 'count', 0) + 1
print('x' * (100_000 if count == 1 else 3))
result = count";
    let headers = [("X-Log-Type", "tail"), ("X-Caller", "alice")];
    let answers: Vec<Value> = (0..2)
        .map(|_| python.execute_with(script, json!({}), &headers).json())
        .collect();
    assert_eq!(answers[0]["logs"].as_str().unwrap().len(), 4096);
    assert_eq!(
        (&answers[1]["result"], &answers[1]["logs"]),
        (&json!(2), &json!("xxx\n"))
    );
}

#[test]
fn the_log_has_the_lines_with_whose_they_are_and_never_params() {
    let python = Supervisor::start(PYTHON, &[("OUTPUT_LOG_BYTES", "100")]);
    let headers = [
        ("X-Request-ID", "6f1c7f0e-0000-4000-8000-000000000001"),
        ("X-Function", "python-orders"),
        ("X-Account", "user alice"),
    ];
    let script = "print('first')\nprint()\nprint('{\"level\": \"ERROR\"}')\nresult = 1";
    let answer = python.execute_with(script, json!({"password": "hunter3"}), &headers);
    assert_eq!(answer.status, 200);
    let (line, all) = python.log_with("executed");
    assert_eq!(line["outcome"], "OK");
    assert!(!all.contains("hunter3"), "{all}");
    let printed: Vec<Value> = all
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["message"] == "printed")
        .collect();
    let said: Vec<&Value> = printed.iter().map(|line| &line["output"]).collect();
    assert_eq!(said, ["first", "{\"level\": \"ERROR\"}"]);
    for line in &printed {
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["request_id"], "6f1c7f0e-0000-4000-8000-000000000001");
        assert_eq!(line["function"], "python-orders");
        assert_eq!(line["caller"], "user alice");
    }

    python.execute_with(
        "for i in range(1000): print('much')\nresult = 1",
        json!({}),
        &[],
    );
    let (line, all) = python.log_with("no more of what it prints is logged");
    assert_eq!(line["bytes"], 100);
    assert_eq!(all.matches("\"much\"").count(), 20);
}
