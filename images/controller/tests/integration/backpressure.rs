use std::time::Duration;

use serde_json::json;

use crate::support::controller::{Controller, JSON};
use crate::support::eventually;
use crate::support::redis::Redis;
use crate::support::runtime::Runtime;

#[tokio::test]
async fn a_slow_language_does_not_hold_up_another() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let controller = Controller::start_with(
        &redis.url(),
        &runtime.url(),
        &[("MAX_CONCURRENT_EXECUTIONS", "2")],
    )
    .await;
    let slow = controller.session("python-x", "sleep 1500").await;
    let quick = controller.session("nodejs-x", "echo").await;
    let beside = async {
        eventually("two executions run", Duration::from_secs(1), async || {
            runtime.counts.started() == 2
        })
        .await;
        let refused = controller.execute(&slow, json!({})).await.expect(503);
        assert_eq!(
            (refused.code().as_str(), refused.retry_after()),
            ("UNAVAILABLE", 1)
        );
        controller.execute(&quick, json!({})).await.expect(200);
    };
    let (one, two, ()) = tokio::join!(
        controller.execute(&slow, json!({})),
        controller.execute(&slow, json!({})),
        beside
    );
    one.expect(200);
    two.expect(200);
    // The places are free again.
    controller.execute(&slow, json!({})).await.expect(200);
    assert_eq!(
        controller
            .metric("lambda_controller_requests_shed_total{limit=\"executions\"}")
            .await,
        1.0
    );
}

#[tokio::test]
async fn beyond_the_limit_of_requests_only_probes_are_answered() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let controller = Controller::start_with(
        &redis.url(),
        &runtime.url(),
        &[("MAX_CONCURRENT_REQUESTS", "1")],
    )
    .await;
    let slow = controller.session("rust-x", "sleep 800").await;
    let beside = async {
        eventually("one execution runs", Duration::from_secs(1), async || {
            runtime.counts.started() == 1
        })
        .await;
        assert_eq!(
            controller
                .initialize("rust-x", "echo")
                .await
                .expect(503)
                .retry_after(),
            1
        );
        controller.get("/health").await.expect(200);
        controller.get("/ready").await.expect(200);
    };
    let (answer, ()) = tokio::join!(controller.execute(&slow, json!({})), beside);
    answer.expect(200);
    controller.initialize("rust-x", "echo").await.expect(200);
}

#[tokio::test]
async fn large_bodies_are_read_where_there_is_room_and_one_caller_has_half_of_it() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let limits = [
        ("MAX_SCRIPT_SIZE", "100k"),
        ("MAX_BODY_SIZE", "200k"),
        ("MAX_BODIES_IN_MEMORY", "800k"),
    ];
    let controller = Controller::start_with(&redis.url(), &runtime.url(), &limits).await;
    let id = controller.session_of("one", "nodejs-x", "sleep 1000").await;
    let others = controller.session_of("other", "nodejs-x", "sleep 0").await;
    let body = json!({"params": "x".repeat(150_000)}).to_string();
    let execute = async |user: &'static str, id: &str, body: &str| {
        let path = format!("/api/v1/execute/{id}");
        let headers = [JSON, ("x-user-id", user)];
        controller
            .call("POST", &path, &headers, body.as_bytes())
            .await
    };
    let beside = async {
        eventually("two executions run", Duration::from_secs(1), async || {
            runtime.counts.started() == 2
        })
        .await;
        let refused = execute("one", &id, &body).await.expect(429);
        assert!(refused.message().contains("large bodies"), "{refused:?}");
        execute("other", &others, &body).await.expect(200);
        execute("one", &id, "{}").await.expect(200);
    };
    let (one, two, ()) = tokio::join!(
        execute("one", &id, &body),
        execute("one", &id, &body),
        beside
    );
    one.expect(200);
    two.expect(200);
    execute("one", &id, &body).await.expect(200);
}

#[tokio::test]
async fn a_large_answer_waits_while_its_caller_has_others_and_nobody_else_does() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let limits = [
        ("MAX_SCRIPT_SIZE", "100k"),
        ("MAX_BODY_SIZE", "200k"),
        ("MAX_BODIES_IN_MEMORY", "400k"),
    ];
    let controller = Controller::start_with(&redis.url(), &runtime.url(), &limits).await;
    let execute = async |user: &'static str, id: &str, size: usize| {
        let path = format!("/api/v1/execute/{id}");
        let headers = [JSON, ("x-user-id", user)];
        let body = json!({"params": "x".repeat(size)}).to_string();
        controller
            .call("POST", &path, &headers, body.as_bytes())
            .await
    };
    // Beyond a caller's share, with bodies that take room of their own: one after the other, none against another.
    let id = controller
        .session_of("one", "nodejs-x", "large 300000")
        .await;
    let (one, two, three) = tokio::join!(
        execute("one", &id, 90_000),
        execute("one", &id, 90_000),
        execute("one", &id, 10)
    );
    for answer in [one, two, three] {
        let answer = answer.expect(200).json();
        assert_eq!(answer["result"].as_str().map(str::len), Some(300_000));
    }
    let other = controller
        .session_of("other", "nodejs-x", "large 150000")
        .await;
    let (one, other) = tokio::join!(execute("one", &id, 10), execute("other", &other, 10));
    one.expect(200);
    other.expect(200);
}
