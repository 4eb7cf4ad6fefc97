use std::mem::ManuallyDrop;
use std::net::TcpStream;
use std::os::fd::FromRawFd;

use serde_json::{Value, json};

use crate::support::controller::{Controller, JSON};
use crate::support::redis::Redis;
use crate::support::runtime::Runtime;

#[tokio::test]
async fn a_session_is_executed_from_any_replica() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let (one, other) = (
        Controller::start(&redis, &runtime).await,
        Controller::start(&redis, &runtime).await,
    );
    for title in ["nodejs-hello", "python-hello", "rust-hello"] {
        let initialized = one.initialize(title, "echo").await.expect(200).json();
        assert_eq!(initialized["status"], "initialized");
        let id = initialized["request_id"].as_str().unwrap();
        for controller in [&one, &other] {
            let executed = controller
                .execute(id, json!({"n": 1}))
                .await
                .expect(200)
                .json();
            let expected = json!({"params": {"n": 1}, "context": {"from": "context"}, "id": id});
            assert_eq!(executed["result"], expected);
            assert_eq!(executed["request_id"], id);
            assert_eq!(
                (
                    &executed["execution_time_ms"],
                    &executed["memory_usage_bytes"]
                ),
                (&json!(1.5), &json!(4096))
            );
            let session = controller
                .get(&format!("/api/v1/sessions/{id}"))
                .await
                .expect(200)
                .json();
            assert_eq!(session["expires_at"], initialized["expires_at"]);
            assert_eq!(
                (&session["language_title"], &session["script_size_bytes"]),
                (&json!(title), &json!(4))
            );
        }
    }
    assert_eq!(runtime.counts.started(), 6);
}

#[tokio::test]
async fn json_reaches_the_runtime_as_it_was_sent() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let controller = Controller::start(&redis, &runtime).await;
    for params in [
        json!(null),
        json!([1, 2.5, -0.0]),
        json!("\u{1F980}\u{0}\\\""),
        json!({"a": {"b": [{}]}}),
        json!(u64::MAX),
    ] {
        let id = controller.session("python-x", "echo").await;
        let executed = controller
            .execute(&id, params.clone())
            .await
            .expect(200)
            .json();
        assert_eq!(executed["result"]["params"], params);
    }
    let id = controller.session("python-x", "echo").await;
    let executed = controller
        .call("POST", &format!("/api/v1/execute/{id}"), &[JSON], b"{}")
        .await
        .expect(200);
    assert_eq!(
        executed.json()["result"]["params"],
        json!({}),
        "params are an empty object where there are none"
    );
}

#[tokio::test]
async fn a_session_expires() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let controller = Controller::start_with(
        &redis.url(),
        &runtime.url(),
        &[("SESSION_EXPIRY_SECONDS", "1")],
    )
    .await;
    let id = controller.session("rust-x", "echo").await;
    controller.execute(&id, json!({})).await.expect(200);
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert_eq!(
        controller.execute(&id, json!({})).await.expect(404).code(),
        "NOT_FOUND"
    );
    assert_eq!(
        controller
            .get(&format!("/api/v1/sessions/{id}"))
            .await
            .expect(404)
            .code(),
        "NOT_FOUND"
    );
}

#[tokio::test]
async fn a_session_of_a_user_is_found_by_that_user_alone() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let controller = Controller::start(&redis, &runtime).await;
    let id = controller.session_of("alice", "nodejs-x", "echo").await;
    for (user, status) in [(Some("alice"), 200), (Some("bob"), 404), (None, 404)] {
        let mut headers = vec![JSON];
        headers.extend(user.map(|user| ("x-user-id", user)));
        controller
            .call("POST", &format!("/api/v1/execute/{id}"), &headers, b"{}")
            .await
            .expect(status);
        controller
            .call("GET", &format!("/api/v1/sessions/{id}"), &headers[1..], b"")
            .await
            .expect(status);
    }
    assert_eq!(runtime.counts.started(), 1);
    let shared = controller.session("nodejs-x", "echo").await;
    controller
        .call(
            "POST",
            &format!("/api/v1/execute/{shared}"),
            &[JSON, ("x-user-id", "bob")],
            b"{}",
        )
        .await
        .expect(200);
}

type Headers<'a> = &'a [(&'a str, &'a str)];

#[tokio::test]
async fn wrong_requests_are_refused_with_the_reason() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let limits = [
        ("MAX_SCRIPT_SIZE", "100"),
        ("MAX_BODY_SIZE", "5000"),
        ("MAX_CONTEXT_SIZE", "1000"),
    ];
    let controller = Controller::start_with(&redis.url(), &runtime.url(), &limits).await;
    let title = ("language-title", "nodejs-x");
    let script = r#"{"script_content": "echo"}"#;
    let long_script = json!({"script_content": "\u{e4}".repeat(51)}).to_string();
    let escaped_script = format!(r#"{{"script_content": "{}"}}"#, r"\u00e4".repeat(50));
    let long_body = json!({"script_content": "echo", "context": "x".repeat(5000)}).to_string();
    let long_context = json!({"script_content": "echo", "context": "x".repeat(1000)}).to_string();
    let deep = |levels: usize| {
        format!(
            r#"{{"script_content": "echo", "context": {}{}}}"#,
            "[".repeat(levels),
            "]".repeat(levels)
        )
    };
    let initialize = "/api/v1/initialize";
    let cases: [(u16, Headers<'_>, &str, &str); 24] = [
        (200, &[JSON, title], script, ""),
        (
            200,
            &[("content-type", "application/json; charset=utf-8"), title],
            script,
            "",
        ),
        (400, &[JSON], script, "Language-Title is missing"),
        (
            400,
            &[JSON, ("language-title", "ruby-x")],
            script,
            "nodejs, python, rust",
        ),
        (400, &[JSON, title, title], script, "more than once"),
        (400, &[JSON, title, ("x-user-id", "")], script, "X-User-ID"),
        (
            400,
            &[JSON, title, ("x-user-id", "a b")],
            script,
            "X-User-ID",
        ),
        (400, &[title], script, "Content-Type"),
        (
            400,
            &[("content-type", "text/plain"), title],
            script,
            "Content-Type",
        ),
        (400, &[JSON, title], "", "must be a JSON object"),
        (400, &[JSON, title], "[]", "must be a JSON object"),
        (400, &[JSON, title], "{}", "script_content is absent"),
        (
            400,
            &[JSON, title],
            r#"{"script_content": 1}"#,
            "must be a string",
        ),
        (
            400,
            &[JSON, title],
            r#"{"script_content": "\ud800"}"#,
            "must be a string",
        ),
        (
            400,
            &[JSON, title],
            r#"{"script_content": " \n"}"#,
            "is empty",
        ),
        (
            400,
            &[JSON, title],
            r#"{"script_content": "x", "contxt": 1}"#,
            "unknown field `contxt`",
        ),
        (
            413,
            &[JSON, title],
            &long_script,
            "has 102 bytes; at most 100",
        ),
        (200, &[JSON, title], &escaped_script, ""),
        (413, &[JSON, title], &long_body, "larger than 5000 bytes"),
        (
            413,
            &[JSON, title],
            &long_context,
            "context has 1002 bytes as JSON; at most 1000",
        ),
        (400, &[JSON, title], &deep(101), "deeper than 100"),
        // JSON that no runtime, or not every one, could read.
        (
            400,
            &[JSON, title],
            r#"{"script_content": "echo", "context": {"a": [1e999]}}"#,
            "out of range",
        ),
        (
            400,
            &[JSON, title],
            r#"{"script_content": "echo", "context": "\ud800"}"#,
            "context is no JSON",
        ),
        (
            400,
            &[JSON, title],
            r#"{"script_content": "echo", "context": {"\udc00": 1}}"#,
            "context is no JSON",
        ),
    ];
    for (status, headers, body, reason) in cases {
        let answer = controller
            .call("POST", initialize, headers, body.as_bytes())
            .await
            .expect(status);
        if status != 200 {
            assert!(answer.message().contains(reason), "{reason}: {answer:?}");
        }
    }
    controller
        .call("POST", initialize, &[JSON, title], deep(100).as_bytes())
        .await
        .expect(200);
    for path in [
        "/api/v1/execute/1",
        "/api/v1/execute/%ff",
        "/api/v1/execute/%00",
        "/api/v1/execute/{}",
    ] {
        let answer = controller
            .call("POST", path, &[JSON], b"{}")
            .await
            .expect(400);
        assert!(answer.message().contains("UUID"), "{answer:?}");
    }
    let unknown = format!("/api/v1/execute/{}", uuid::Uuid::new_v4());
    controller
        .call("POST", &unknown, &[JSON], b"{}")
        .await
        .expect(404);
    controller
        .call("POST", &unknown, &[JSON], br#"{"param": 1}"#)
        .await
        .expect(400);
    for params in [
        "-1e999",
        r#""\ud800""#,
        &format!("{}{}", "[".repeat(101), "]".repeat(101)),
    ] {
        let body = format!(r#"{{"params": {params}}}"#);
        let answer = controller
            .call("POST", &unknown, &[JSON], body.as_bytes())
            .await
            .expect(400);
        assert!(answer.message().contains("params is no JSON"), "{answer:?}");
    }
    assert_eq!(runtime.counts.started(), 0);
}

#[tokio::test]
async fn other_paths_and_methods_answer_in_the_same_shape() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let controller = Controller::start(&redis, &runtime).await;
    for path in [
        "/",
        "/api/v1",
        "/api/v1/initialize/",
        "/api/v1/execute/",
        "/metrics",
        "/api/v2/initialize",
    ] {
        assert_eq!(controller.get(path).await.expect(404).code(), "NOT_FOUND");
    }
    for (method, path, allowed) in [
        ("GET", "/api/v1/initialize", "POST"),
        ("DELETE", "/api/v1/sessions/x", "GET,HEAD"),
        ("BREW", "/health", "GET,HEAD"),
    ] {
        let answer = controller.call(method, path, &[], b"").await.expect(405);
        assert_eq!(answer.code(), "INVALID_REQUEST");
        assert_eq!(answer.headers["allow"], allowed);
    }
    controller
        .call("HEAD", "/health", &[], b"")
        .await
        .expect(200);
}

#[tokio::test]
async fn a_body_too_large_is_answered_while_it_is_still_being_sent() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let controller = Controller::start(&redis, &runtime).await;
    let body = vec![b' '; 6 << 20];
    let answer = controller
        .call(
            "POST",
            "/api/v1/initialize",
            &[JSON, ("language-title", "rust-x")],
            &body,
        )
        .await;
    assert_eq!(answer.expect(413).code(), "PAYLOAD_TOO_LARGE");
}

#[tokio::test]
async fn what_the_runtime_says_reaches_the_caller() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let controller =
        Controller::start_with(&redis.url(), &runtime.url(), &[("MAX_RESULT_SIZE", "1000")]).await;
    for (script, status, code, message) in [
        (
            "status 422 ReferenceError: x",
            422,
            "RUNTIME_ERROR",
            "ReferenceError: x",
        ),
        ("status 504 after 30 s", 504, "TIMEOUT", "after 30 s"),
        ("status 400 no", 400, "INVALID_REQUEST", "no"),
        ("status 413 big", 413, "PAYLOAD_TOO_LARGE", "big"),
        ("status 429 its share", 429, "RATE_LIMITED", "its share"),
        (
            "status 503 queue is full",
            503,
            "UNAVAILABLE",
            "queue is full",
        ),
        (
            "status 500 secret",
            500,
            "INTERNAL_ERROR",
            "the python runtime gave an answer that cannot be used",
        ),
        (
            "raw secret",
            500,
            "INTERNAL_ERROR",
            "the python runtime gave an answer that cannot be used",
        ),
        (
            "large 2000",
            422,
            "RUNTIME_ERROR",
            "the result is larger than 1000 bytes",
        ),
    ] {
        let id = controller.session("python-x", script).await;
        let answer = controller.execute(&id, json!({})).await.expect(status);
        assert_eq!(
            (answer.code().as_str(), answer.message().as_str()),
            (code, message)
        );
        if status == 503 {
            assert_eq!(answer.retry_after(), 7);
        }
    }
    for outcome in ["script_error", "timeout", "rejected", "busy", "broken"] {
        let series = format!(
            "lambda_controller_runtime_calls_total{{language=\"python\",outcome=\"{outcome}\"}}"
        );
        assert!(controller.metric(&series).await > 0.0, "{series}");
    }
    // Of every execution that a runtime was asked for, also where it failed.
    let overhead = "lambda_controller_overhead_seconds_count ";
    assert!(controller.metric(overhead).await >= 5.0, "{overhead}");
}

#[tokio::test]
async fn a_script_that_does_not_end_is_cut_after_the_runtimes_own_limit() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let controller = Controller::start_with(
        &redis.url(),
        &runtime.url(),
        &[("RUNTIME_TIMEOUT_SECONDS", "1")],
    )
    .await;
    let id = controller.session("nodejs-x", "sleep 60000").await;
    let start = std::time::Instant::now();
    let answer = controller.execute(&id, json!({})).await.expect(504);
    assert_eq!(answer.code(), "TIMEOUT");
    let elapsed = start.elapsed().as_secs_f64();
    assert!((2.9..4.0).contains(&elapsed), "{elapsed}");
}

#[tokio::test]
async fn the_callers_time_limit_is_the_runtimes() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let controller = Controller::start_with(
        &redis.url(),
        &runtime.url(),
        &[("RUNTIME_TIMEOUT_SECONDS", "5")],
    )
    .await;
    let id = controller.session("nodejs-x", "echo").await;
    let sent = || {
        let headers = runtime.counts.last_headers.lock().unwrap();
        let value = headers.get("x-timeout-seconds");
        value.map(|value| value.to_str().unwrap().to_owned())
    };
    controller.execute(&id, json!({})).await.expect(200);
    assert_eq!(sent(), None, "the runtime's own default holds");
    for (limit, passed_on) in [("5", "5"), ("0.25", "0.25"), ("1e-1", "0.1")] {
        controller.execute_within(&id, limit).await.expect(200);
        assert_eq!(sent().as_deref(), Some(passed_on));
    }
    let executed = runtime.counts.started();
    for wrong in ["0", "-1", "5.1", "soon", ""] {
        let answer = controller.execute_within(&id, wrong).await.expect(400);
        assert_eq!(answer.code(), "INVALID_REQUEST");
        assert!(
            answer.message().starts_with("X-Timeout-Seconds")
                && answer.message().contains("from 0.001 to 5"),
            "{answer:?}"
        );
    }
    assert_eq!(runtime.counts.started(), executed, "nothing ran");
}

#[tokio::test]
async fn the_runtime_learns_whose_execution_it_is() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let controller = Controller::start(&redis, &runtime).await;
    let caller = || {
        let headers = runtime.counts.last_headers.lock().unwrap();
        headers
            .get("x-caller")
            .map(|value| value.to_str().unwrap().to_owned())
    };
    let account = || {
        let headers = runtime.counts.last_headers.lock().unwrap();
        headers
            .get("x-account")
            .map(|value| value.to_str().unwrap().to_owned())
    };
    let id = controller.session("nodejs-x", "echo").await;
    controller.execute(&id, json!({})).await.expect(200);
    assert_eq!(
        caller(),
        Some(format!("session {id}")),
        "nobody's sessions have nothing in common"
    );
    assert_eq!(account().as_deref(), Some("anonymous"));
    let headers = [JSON, ("x-forwarded-for", "192.0.2.1, 10.0.0.7")];
    controller
        .call("POST", &format!("/api/v1/execute/{id}"), &headers, b"{}")
        .await
        .expect(200);
    assert_eq!(
        account().as_deref(),
        Some("anonymous 10.0.0.7"),
        "what the edge has seen"
    );
    // Who executes a session that is nobody's does not become its owner.
    let headers = [JSON, ("x-user-id", "bob")];
    controller
        .call("POST", &format!("/api/v1/execute/{id}"), &headers, b"{}")
        .await
        .expect(200);
    assert_eq!(caller(), Some(format!("session {id}")));
    assert_eq!(
        account().as_deref(),
        Some("user bob"),
        "who asks takes the place"
    );
    let id = controller.session_of("alice", "nodejs-x", "echo").await;
    let path = format!("/api/v1/execute/{id}");
    controller
        .call("POST", &path, &[JSON, ("x-user-id", "alice")], b"{}")
        .await
        .expect(200);
    assert_eq!(caller().as_deref(), Some("user alice"));
    // What a caller sends under that name goes no further.
    let headers = [JSON, ("x-user-id", "alice"), ("x-caller", "user bob")];
    controller
        .call("POST", &path, &headers, b"{}")
        .await
        .expect(200);
    assert_eq!(caller().as_deref(), Some("user alice"));
}

#[tokio::test]
async fn a_runtime_that_does_not_hold_the_callers_time_limit_is_left_soon_after_it() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let controller = Controller::start(&redis, &runtime).await;
    let id = controller.session("nodejs-x", "sleep 60000").await;
    let start = std::time::Instant::now();
    let answer = controller.execute_within(&id, "0.5").await.expect(504);
    assert_eq!(answer.code(), "TIMEOUT");
    assert!(answer.message().contains("within 0.5 s"), "{answer:?}");
    let elapsed = start.elapsed().as_secs_f64();
    assert!((2.4..3.5).contains(&elapsed), "{elapsed}");
}

#[tokio::test]
async fn what_is_sent_to_redis_and_to_runtimes_leaves_at_once() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let controller = Controller::start(&redis, &runtime).await;
    let id = controller.session("nodejs-x", "echo").await;
    controller.execute(&id, json!({})).await.expect(200);
    // The controller is in this process. A read and a write connection to Redis, and one to the runtime.
    for (port, least) in [(redis.port, 2), (runtime.address.port(), 1)] {
        let without_delay = connections_to(port);
        assert!(without_delay.len() >= least, "{port}: {without_delay:?}");
        assert!(without_delay.iter().all(|set| *set), "{port}");
    }
}

/// For each connection of this process to `port`, whether TCP_NODELAY is set (tcp(7)).
fn connections_to(port: u16) -> Vec<bool> {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
    descriptors
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|descriptor| {
            // SAFETY: only asked, and never closed here; what is no connection answers with an error.
            let stream = unsafe { ManuallyDrop::new(TcpStream::from_raw_fd(descriptor)) };
            let leads_there = stream.peer_addr().is_ok_and(|peer| peer.port() == port);
            leads_there.then(|| stream.nodelay().unwrap())
        })
        .collect()
}

#[tokio::test]
async fn the_trace_goes_on_to_the_runtime() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let controller = Controller::start(&redis, &runtime).await;
    let id = controller.session("nodejs-x", "echo").await;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let edge = "0b6f0d4a-93c1-4d3e-8d57-2f1f2a0c7e11";
    let headers = [
        JSON,
        ("traceparent", parent),
        ("tracestate", "a=b"),
        ("x-request-id", edge),
        ("x-user-id", "alice"),
        ("cookie", "private"),
    ];
    controller
        .call("POST", &format!("/api/v1/execute/{id}"), &headers, b"{}")
        .await
        .expect(200);
    let sent = runtime.counts.last_headers.lock().unwrap().clone();
    let sent_parent = sent["traceparent"].to_str().unwrap();
    assert!(
        sent_parent.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-")
            && sent_parent.ends_with("-01")
    );
    assert_ne!(sent_parent, parent);
    assert_eq!(sent["tracestate"], "a=b");
    assert_eq!(sent["x-request-id"], edge);
    assert!(
        !sent.contains_key("cookie"),
        "nothing else of the caller's is passed on"
    );
}

#[tokio::test]
async fn probes_name_the_part_that_is_down() {
    let (mut redis, runtime) = (Redis::start().await, Runtime::start().await);
    let port = crate::support::free_port();
    let url = format!("http://127.0.0.1:{port}");
    let controller =
        Controller::start_with(&redis.url(), &runtime.url(), &[("RUST_RUNTIME_URL", &url)]).await;
    let status =
        |ready: &Value, part: &str| ready["parts"][part]["status"].as_str().unwrap().to_owned();
    // A new replica may just not be let through yet.
    let new = controller.get("/ready").await.expect(503);
    assert!(
        new.message().ends_with("a first answer of: rust-runtime"),
        "{new:?}"
    );
    let parts = new.json();
    assert_eq!(
        (status(&parts, "redis"), status(&parts, "rust-runtime")),
        ("up".into(), "down".into())
    );
    assert_eq!(status(&parts, "python-runtime"), "up");
    controller.get("/health").await.expect(200);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await;
    let _rust = Runtime::start_on(listener.unwrap());
    controller.get("/ready").await.expect(200);
    redis.kill();
    let start = std::time::Instant::now();
    let answer = controller.get("/ready").await.expect(503);
    assert!(
        start.elapsed().as_millis() < 1000,
        "a probe gives up after a second"
    );
    assert!(
        answer.message().starts_with("redis is down: "),
        "{answer:?}"
    );
    controller.get("/health").await.expect(200);
}
