//! What a caller is promised.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{NODEJS, PYTHON, RUST, Supervisor, eventually, request};

#[test]
fn nodejs_scripts_are_bodies_of_an_async_function() {
    let node = Supervisor::start(NODEJS, &[]);
    assert_eq!(
        node.result("return params.a + context.c", json!({"a": 2})),
        5
    );
    assert_eq!(
        node.result(
            "return await new Promise(done => setTimeout(done, 5, [1, 'é']))",
            json!({})
        ),
        json!([1, "é"])
    );
    assert_eq!(node.result("params.a += 1", json!({"a": 2})), json!(null));
    assert_eq!(
        node.result(
            "console.log('noise'); return require('node:crypto').randomBytes(4).length",
            json!({})
        ),
        4
    );
    assert_eq!(
        node.failure("const x = 1;\nthrow new TypeError('no')"),
        "TypeError: no (line 2)"
    );
    assert_eq!(
        node.failure("return 1;\nlet x = = 2"),
        "SyntaxError: Unexpected token '=' (line 2)"
    );
    assert!(
        node.failure("}); (async function () {")
            .starts_with("SyntaxError")
    );
    assert!(node.failure("throw undefined").contains("undefined"));
    assert!(node.failure("process.exit(7)").contains("exit status 7"));
    assert!(
        node.failure(
            "setTimeout(() => { throw new Error('late') }, 1); await new Promise(() => {})"
        )
        .contains("late")
    );
    assert!(
        node.failure("await new Promise(() => {})")
            .contains("never settled")
    );
}

#[test]
fn processes_of_nodejs_start_from_a_snapshot_and_share_no_more_than_that() {
    let node = Supervisor::start(NODEJS, &[]);
    let script = "
        const { execArgv, argv, env } = process;
        globalThis.left = (globalThis.left || 0) + 1;
        return {
            snapshot: execArgv.includes('--snapshot-blob'),
            worker: argv.slice(1).map((path) => path.split('/').pop()),
            environment: Object.keys(env).sort(),
            inFolder: process.cwd() === env.HOME && require('node:path').resolve('x') === env.HOME + '/x',
            left,
            loads: [typeof require('node:module'), typeof require.resolve],
            own: [process.cwd(), process.pid, Math.random(), require('node:crypto').randomUUID(), performance.timeOrigin],
        }";
    let seen: Vec<_> = (0..3).map(|_| node.result(script, json!({}))).collect();
    for (number, one) in seen.iter().enumerate() {
        assert_eq!(one["snapshot"], true);
        assert_eq!(one["worker"], json!(["worker.js"]));
        assert_eq!(
            one["environment"],
            json!(["HOME", "LANG", "TMPDIR", "TZ"]),
            "not the supervisor's"
        );
        assert_eq!(one["inFolder"], true);
        assert_eq!(one["left"], 1, "of another script");
        assert_eq!(one["loads"], json!(["function", "function"]));
        for other in &seen[..number] {
            for what in 0..5 {
                assert_ne!(one["own"][what], other["own"][what]);
            }
        }
    }
    // A script that is a module of its own folder, which only Node.js's full `require` loads.
    let module = "require('fs').writeFileSync('m.js', 'module.exports = 42'); return require(process.cwd() + '/m.js')";
    assert_eq!(node.result(module, json!({})), 42);
}

#[test]
fn python_scripts_set_result_or_define_handle() {
    let python = Supervisor::start(PYTHON, &[]);
    assert_eq!(
        python.result("result = params['a'] + context['c']", json!({"a": 2})),
        5
    );
    assert_eq!(
        python.result(
            "def handle(params, context):\n  print('noise')\n  return [params, 'é']",
            json!([1])
        ),
        json!([[1], "é"])
    );
    assert_eq!(
        python.failure("def handle(params, context):\n  return params['x']"),
        "KeyError: 'x' (line 2)"
    );
    assert_eq!(
        python.failure("x = 1\nresult = = 1"),
        "SyntaxError: invalid syntax (line 2)"
    );
    assert!(
        python
            .failure("x = 1")
            .contains("neither sets result nor defines handle")
    );
    assert!(
        python
            .failure("import sys\nsys.exit(3)")
            .contains("sys.exit(3)")
    );
    assert!(
        python
            .failure("async def handle(params, context): pass")
            .contains("coroutine")
    );
}

#[test]
fn rust_scripts_are_compiled_once() {
    let rust = Supervisor::start(RUST, &[]);
    let script = "fn handle(params: Value, context: Value) -> Result<Value, String> {
        let list: Vec<i64> = serde_json::from_value(params[\"a\"].clone()).map_err(|e| e.to_string())?;
        Ok(json!({\"sum\": list.iter().sum::<i64>(), \"c\": context[\"c\"]}))
    }";
    let first = std::thread::scope(|scope| {
        let both = [(); 3].map(|()| scope.spawn(|| rust.result(script, json!({"a": [1, 2]}))));
        both.map(|one| one.join().unwrap())
    });
    assert!(
        first
            .iter()
            .all(|result| *result == json!({"sum": 3, "c": 3})),
        "{first:?}"
    );
    let begun = Instant::now();
    assert_eq!(rust.result(script, json!({"a": [5]}))["sum"], 5);
    assert!(
        begun.elapsed() < Duration::from_millis(500),
        "{:?} for a compiled script",
        begun.elapsed()
    );
    // One for the check at start and one for this script.
    assert_eq!(
        rust.metric("lambda_runtime_compile_duration_seconds_count"),
        2.0
    );

    assert_eq!(
        rust.failure(
            "fn handle(_: Value, _: Value) -> Result<Value, String> { Err(\"no\".into()) }"
        ),
        "no"
    );
    let message = rust.failure(
        "fn handle(_: Value, _: Value) -> Result<Value, String> {\n  panic!(\"at {}\", 2)\n}",
    );
    assert_eq!(message, "panicked: at 2 (line 2)");
    let message =
        rust.failure("fn handle(_: Value, _: Value) -> Result<Value, String> {\n  Ok(x)\n}");
    assert!(message.contains("script.rs:2:6: error[E0425]"), "{message}");
}

#[test]
fn every_answer_has_the_form_of_the_contract() {
    let python = Supervisor::start(
        PYTHON,
        &[("MAX_BODY_BYTES", "100000"), ("MAX_SCRIPT_SIZE", "1000")],
    );
    let answer =
        python.execute("import time\ntime.sleep(0.05)\nresult = bytearray(20_000_000) and 1");
    let body = answer.json();
    assert_eq!(answer.status, 200);
    assert!(
        (50.0..1000.0).contains(&body["execution_time_ms"].as_f64().unwrap()),
        "{body}"
    );
    assert!(
        (25_000_000..100_000_000).contains(&body["memory_usage_bytes"].as_u64().unwrap()),
        "{body}"
    );

    let code = |method, path, headers: &[(&str, &str)], body: &[u8]| {
        let (status, code, message) = request(&python.api, method, path, headers, body).error();
        assert!(!message.is_empty());
        (status, code)
    };
    let expect = |status, code: &str| (status, code.to_owned());
    assert_eq!(
        code("POST", "/execute", &[], b"{"),
        expect(400, "INVALID_REQUEST")
    );
    assert_eq!(
        code("POST", "/execute", &[], b"{\"request_id\":\"\xff\"}"),
        expect(400, "INVALID_REQUEST")
    );
    assert_eq!(
        code("POST", "/execute", &[], &vec![b' '; 200_000]),
        expect(413, "PAYLOAD_TOO_LARGE")
    );
    let long = json!({"request_id": "r", "script_content": "#".repeat(2000)}).to_string();
    assert_eq!(
        code("POST", "/execute", &[], long.as_bytes()),
        expect(413, "PAYLOAD_TOO_LARGE")
    );
    for header in ["0", "-1", "31", "soon", "nan", "1e400"] {
        let request = code("POST", "/execute", &[("X-Timeout-Seconds", header)], b"{}");
        assert_eq!(request, expect(400, "INVALID_REQUEST"), "{header}");
    }
    assert_eq!(code("GET", "/nowhere", &[], b""), expect(404, "NOT_FOUND"));
    assert_eq!(code("GET", "/execute", &[], b"").0, 405);

    let health = request(&python.api, "GET", "/health", &[], b"");
    let body = health.json();
    assert_eq!(
        (health.status, &body["status"], &body["language"]),
        (200, &json!("ok"), &json!("python"))
    );
    let isolation = &body["isolation"];
    assert_eq!(isolation["seccomp"], true);
    // The metrics say the same.
    let part = |name| {
        python.metric(&format!(
            "lambda_runtime_isolation{{language=\"python\",part=\"{name}\"}}"
        ))
    };
    assert_eq!(part("seccomp"), 1.0);
    let abi = isolation["landlock_abi"].as_f64().unwrap();
    assert_eq!(python.metric("lambda_runtime_landlock_abi{"), abi);
    assert_eq!(part("landlock") == 1.0, abi > 0.0);
    assert_eq!(part("landlock_signals") == 1.0, abi >= 6.0);
    assert_eq!(
        part("user_namespace") == 1.0,
        isolation["user_namespace"] == true
    );
    assert_eq!(part("cgroup_v2") == 1.0, isolation["cgroup"] == 2);
    assert!(
        body["version"].as_str().unwrap().starts_with("3."),
        "{body}"
    );
}

#[test]
fn the_log_of_an_execution_has_its_trace_and_not_the_id_of_its_session() {
    let python = Supervisor::start(PYTHON, &[("WARM_PROCESSES", "0"), ("REUSE", "none")]);
    let session = "5e55104e-0000-4000-8000-000000000001";
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let edge = "0b6f0d4a-93c1-4d3e-8d57-2f1f2a0c7e11";
    let execute = || {
        let body = json!({"request_id": session, "script_content": "result = 1"}).to_string();
        let caller = format!("session {session}");
        let headers = [
            ("traceparent", parent),
            ("x-request-id", edge),
            ("x-caller", caller.as_str()),
        ];
        request(&python.api, "POST", "/execute", &headers, body.as_bytes()).status
    };
    let check = |message, outcome: &str| {
        let (line, all) = python.log_with(message);
        assert_eq!(
            line["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736",
            "{line}"
        );
        let span = line["span_id"].as_str().unwrap();
        assert!(span.len() == 16 && span != "00f067aa0ba902b7", "{line}");
        assert_eq!(line["request_id"], edge);
        assert_eq!(line["session_id"], lambda_common::masked::masked(session));
        assert!(!all.contains(session), "{all}");
        assert_eq!(line["outcome"].as_str().unwrap_or_default(), outcome);
    };
    assert_eq!(execute(), 200);
    check("executed", "OK");
    // Where a process has no folder, that is our failure, and has a line of its own.
    std::fs::remove_dir_all(python.scratch.join("executions")).unwrap();
    assert_eq!(execute(), 500);
    check("an execution failed for a reason that is ours", "");
}

#[test]
fn a_time_limit_ends_the_script() {
    let node = Supervisor::start(NODEJS, &[]);
    let begun = Instant::now();
    let answer = node.execute_with("while (true);", json!({}), &[("X-Timeout-Seconds", "0.3")]);
    assert_eq!(
        (answer.error().0, answer.error().1.as_str()),
        (504, "TIMEOUT")
    );
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(
        node.metric("lambda_runtime_failures_total{language=\"nodejs\",kind=\"timeout\"}"),
        1.0
    );
}

#[test]
fn processor_time_is_limited_too() {
    let python = Supervisor::start(PYTHON, &[("CPU_LIMIT_SECONDS", "1")]);
    let (status, code, message) = python.execute("while True: pass").error();
    assert_eq!((status, code.as_str()), (504, "TIMEOUT"));
    assert!(message.contains("processor time"), "{message}");
}

#[test]
fn a_client_that_goes_away_ends_its_script() {
    let python = Supervisor::start(PYTHON, &[("WARM_PROCESSES", "0")]);
    eventually(
        "the check's process is gone",
        Duration::from_secs(2),
        || python.executions().is_empty(),
    );
    let body =
        json!({"request_id": "r", "script_content": "import time\ntime.sleep(20)"}).to_string();
    let mut client = TcpStream::connect(&python.api).unwrap();
    write!(
        client,
        "POST /execute HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    eventually("the script runs", Duration::from_secs(5), || {
        python.metric("lambda_runtime_running{") == 1.0
    });
    drop(client);
    eventually("the script is ended", Duration::from_secs(2), || {
        python.executions().is_empty()
    });
    eventually("its folder is wiped", Duration::from_secs(2), || {
        std::fs::read_dir(python.scratch.join("executions"))
            .unwrap()
            .count()
            == 0
    });
    assert_eq!(
        python.metric("lambda_runtime_executions_total{language=\"python\",outcome=\"cancelled\"}"),
        1.0
    );
    assert_eq!(python.metric("lambda_runtime_running{"), 0.0);
}

#[test]
fn sigterm_lets_requests_in_flight_finish() {
    let python = Supervisor::start(PYTHON, &[]);
    let api = python.api.clone();
    let running = std::thread::spawn({
        let body =
            json!({"request_id": "r", "script_content": "import time\ntime.sleep(1)\nresult = 1"})
                .to_string();
        move || request(&api, "POST", "/execute", &[], body.as_bytes())
    });
    eventually("the script runs", Duration::from_secs(5), || {
        python.metric("lambda_runtime_running{") == 1.0
    });
    assert_eq!(python.stop(), Some(0));
    assert_eq!(running.join().unwrap().status, 200);
}

#[test]
fn a_fork_server_that_dies_takes_no_execution_with_it() {
    let python = Supervisor::start(PYTHON, &[("WARM_PROCESSES", "1")]);
    let first = python.fork_server();
    std::thread::scope(|scope| {
        let running =
            scope.spawn(|| python.result("import time\ntime.sleep(1)\nresult = 'done'", json!({})));
        eventually("the script runs", Duration::from_secs(5), || {
            python.metric("lambda_runtime_running{") == 1.0
        });
        let pid = nix::unistd::Pid::from_raw(first);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        for number in 0..5 {
            assert_eq!(python.result("result = params", json!(number)), number);
        }
        assert_eq!(running.join().unwrap(), "done");
    });
    eventually("the other is gone", Duration::from_secs(5), || {
        python.fork_server() != first
    });
}

/// So that the seed of Python's hashes, which forks have in common, is not known for long.
#[test]
fn the_fork_server_is_replaced_after_a_thousand_forks() {
    let python = Supervisor::start(PYTHON, &[]);
    let first = python.fork_server();
    let hash = || python.result("result = hash('a')", json!({}));
    let before = hash();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..250).for_each(|_| drop(hash())));
        }
    });
    eventually("another one serves", Duration::from_secs(20), || {
        hash() != before
    });
    eventually("the other is gone", Duration::from_secs(5), || {
        python.fork_server() != first
    });
}

/// A script that takes so many megabytes.
fn takes_memory(language: &str) -> &'static str {
    match language {
        NODEJS => {
            "const all = []; for (let n = 0; n < params.mb; n++) all.push(Buffer.alloc(1 << 20, 1)); return all.length"
        }
        PYTHON => {
            "all = [bytearray(b'x' * (1 << 20)) for _ in range(params['mb'])]\nresult = len(all)"
        }
        _ => {
            "fn handle(params: Value, _: Value) -> Result<Value, String> {
                let all: Vec<Vec<u8>> = (0..params[\"mb\"].as_u64().unwrap()).map(|_| vec![1; 1 << 20]).collect();
                Ok(json!(all.len()))
            }"
        }
    }
}

#[test]
fn a_request_can_have_less_memory_than_the_limit() {
    for language in [NODEJS, PYTHON, RUST] {
        let supervisor = Supervisor::start(language, &[]);
        let script = takes_memory(language);
        let least = ("X-Memory-Limit-Bytes", "67108864");
        let caller = ("X-Caller", "alice");
        let run = |mb: u64, headers: &[(&str, &str)]| {
            supervisor.execute_with(script, json!({ "mb": mb }), headers)
        };
        // Its process goes from one limit to the other.
        for (mb, headers) in [
            (1, &[caller, least][..]),
            (150, &[caller]),
            (1, &[caller, least]),
        ] {
            let answer = run(mb, headers);
            assert_eq!(answer.status, 200, "{language}: {}", answer.body);
            assert_eq!(answer.json()["result"], mb);
        }
        for _ in 0..2 {
            let (status, _, message) = run(150, &[caller, least]).error();
            assert_eq!(status, 422, "{language}: {message}");
            assert!(
                ["memory", "allocation"]
                    .iter()
                    .any(|word| message.contains(word)),
                "{language}: {message}"
            );
        }
        for wrong in ["", "0", "67108863", "268435457", "64Mi", "-1"] {
            let (status, _, message) = run(1, &[("X-Memory-Limit-Bytes", wrong)]).error();
            assert!(
                status == 400 && message.contains("from 67108864 to 268435456"),
                "{wrong}: {message}"
            );
        }
    }
}
