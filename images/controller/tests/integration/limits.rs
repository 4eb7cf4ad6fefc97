//! What a version of a function says of its memory and of how often it runs at once.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::calls::{Platform, ask};
use crate::support::controller::{Controller, JSON};
use crate::support::eventually;

async fn register(controller: &Controller, path: &str, body: &Value) -> Value {
    let answer = ask(controller, "PUT", path, "alice", body).await;
    assert!(answer.status.is_success(), "{answer:?}");
    answer.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_handed_to_the_runtime_with_each_execution() {
    let platform = Platform::start_with(&[("RUNTIME_MEMORY_LIMIT_BYTES", "128Mi")]).await;
    let (controller, runtime) = (&platform.controller, &platform.runtime);
    let sent = || {
        let headers = runtime.counts.last_headers.lock().unwrap();
        let value = headers.get("x-memory-limit-bytes");
        value.map(|value| value.to_str().unwrap().to_owned())
    };
    let body = json!({"script_content": "echo", "memory_bytes": 100_000_000});
    let function = register(controller, "rust-x", &body).await;
    assert_eq!(
        (&function["memory_bytes"], &function["version"]),
        (&json!(100_000_000), &json!(1))
    );
    ask(controller, "POST", "rust-x", "bob", &json!({}))
        .await
        .expect(200);
    assert_eq!(sent().as_deref(), Some("100000000"));
    let headers = [JSON, ("language-title", "rust-x")];
    let session = controller
        .call("POST", "/api/v1/initialize", &headers, b"{}")
        .await;
    let id = session.expect(200).json()["request_id"]
        .as_str()
        .unwrap()
        .to_owned();
    controller.execute(&id, json!({})).await.expect(200);
    assert_eq!(sent().as_deref(), Some("100000000"));
    // What is left out stays; as much as the platform's own is none of the function's.
    let same = register(controller, "rust-x", &json!({"script_content": "echo"})).await;
    assert_eq!(
        (&same["memory_bytes"], &same["version"]),
        (&json!(100_000_000), &json!(1))
    );
    let body = json!({"script_content": "echo", "memory_bytes": null});
    let none = register(controller, "rust-x", &body).await;
    assert!(none["memory_bytes"].is_null() && none["version"] == 2);
    ask(controller, "POST", "rust-x", "bob", &json!({}))
        .await
        .expect(200);
    assert_eq!(sent(), None);
    ask(controller, "POST", "rust-x?version=1", "bob", &json!({}))
        .await
        .expect(200);
    assert_eq!(sent().as_deref(), Some("100000000"));
    let versions = ask(controller, "GET", "rust-x/versions", "bob", &json!(null))
        .await
        .json();
    assert_eq!(versions["versions"][1]["memory_bytes"], 100_000_000);
    for (field, wrong) in [
        ("memory_bytes", json!(67_108_863)),
        ("memory_bytes", json!(134_217_729)),
        ("memory_bytes", json!(-1)),
        ("memory_bytes", json!(1e8)),
        ("max_concurrency", json!(0)),
        ("max_concurrency", json!(1001)),
        ("max_concurrency", json!("3")),
    ] {
        let body = json!({"script_content": "echo", field: wrong});
        let answer = ask(controller, "PUT", "rust-x", "alice", &body).await;
        assert_eq!(answer.expect(400).code(), "INVALID_REQUEST", "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_runs_as_often_at_once_as_it_says_over_all_replicas() {
    let platform = Platform::start().await;
    let (one, other) = (&platform.controller, &platform.another().await);
    let runtime = &platform.runtime;
    let body = json!({"script_content": "sleep 3000", "max_concurrency": 3});
    register(one, "rust-x", &body).await;
    let running = "lambda:running:1:1";
    let count = async || {
        platform
            .redis
            .ask::<i64>(&["ZCARD", running])
            .await
            .unwrap()
    };
    let answers = join_all((0..10).map(|number| async move {
        let controller = if number % 2 == 0 { one } else { other };
        let user = format!("user{number}");
        ask(controller, "POST", "rust-x", &user, &json!({})).await
    }))
    .await;
    let ran = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!((ran, runtime.counts.started()), (3, 3));
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!((answer.status.as_u16(), answer.retry_after()), (429, 1));
        assert!(answer.message().contains("max_concurrency"), "{answer:?}");
        assert_eq!(answer.code(), "RATE_LIMITED");
    }
    eventually("all is given back", Duration::from_secs(2), async || {
        count().await == 0
    })
    .await;
    // A session's executions count with the calls.
    let headers = [JSON, ("language-title", "rust-x")];
    let session = one
        .call("POST", "/api/v1/initialize", &headers, b"{}")
        .await;
    let id = session.expect(200).json()["request_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let executions = join_all((0..4).map(|_| one.execute(&id, json!({})))).await;
    let refused = executions
        .iter()
        .filter(|answer| answer.status == 429)
        .count();
    assert_eq!(refused, 1);
    // So does what a lost replica has left, until its time is over, and another version does not.
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let end = |milliseconds: u128| (now.as_millis() + milliseconds).to_string();
    let (lost, over) = (end(4000), end(0));
    for (end, lease) in [(&lost, "a"), (&lost, "b"), (&lost, "c"), (&over, "d")] {
        let _: Option<i64> = platform.redis.ask(&["ZADD", running, end, lease]).await;
    }
    ask(one, "POST", "rust-x", "bob", &json!({}))
        .await
        .expect(429);
    let body = json!({"script_content": "echo"});
    register(one, "rust-x", &body).await;
    ask(one, "POST", "rust-x", "bob", &json!({}))
        .await
        .expect(200);
    tokio::time::sleep(Duration::from_millis(4100)).await;
    ask(one, "POST", "rust-x?version=1", "bob", &json!({}))
        .await
        .expect(200);
    let seconds: Option<i64> = platform.redis.ask(&["TTL", running]).await;
    assert!(seconds.is_some_and(|seconds| (1..=40).contains(&seconds)) || count().await == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_gives_its_place_back() {
    let platform = Platform::start().await;
    let controller = &platform.controller;
    let body = json!({"script_content": "sleep 20000", "max_concurrency": 1});
    register(controller, "rust-x", &body).await;
    let runs = async |number: usize| platform.runtime.counts.started() == number;
    let gone = tokio::time::timeout(Duration::from_secs(1), async {
        ask(controller, "POST", "rust-x", "bob", &json!({})).await
    });
    assert!(gone.await.is_err() && runs(1).await);
    let second = async || {
        let body = json!({});
        let call = ask(controller, "POST", "rust-x", "bob", &body);
        // Refused at once, or under way.
        tokio::time::timeout(Duration::from_millis(500), call)
            .await
            .is_err()
    };
    eventually("another runs", Duration::from_secs(5), second).await;
}
