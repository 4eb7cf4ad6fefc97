//! `Idempotency-Key`: one execution for all requests with the same key.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::controller::{Controller, JSON};
use crate::support::eventually;
use crate::support::http::{Answer, request, send};
use crate::support::redis::Redis;
use crate::support::runtime::Runtime;

async fn execute(controller: &Controller, id: &str, key: &str, body: &str) -> Answer {
    let path = format!("/api/v1/execute/{id}");
    let headers = [JSON, ("idempotency-key", key)];
    controller
        .call("POST", &path, &headers, body.as_bytes())
        .await
}

const BODY: &str = r#"{"params": {"a": 1}}"#;

#[tokio::test]
async fn the_same_request_gets_the_first_answer() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let controller = Controller::start(&redis, &runtime).await;
    let other_replica = Controller::start(&redis, &runtime).await;
    for (script, status) in [
        ("echo", 200),
        ("status 422 no", 422),
        ("status 504 slow", 504),
        ("raw no-json", 500),
    ] {
        let id = controller.session("python-x", script).await;
        let before = runtime.counts.started();
        let first = execute(&controller, &id, "key-1", BODY)
            .await
            .expect(status);
        assert!(!first.headers.contains_key("idempotent-replayed"));
        for replica in [&controller, &other_replica] {
            let again = execute(replica, &id, "key-1", BODY).await.expect(status);
            assert_eq!(
                (&again.body, &again.headers["content-type"]),
                (&first.body, &first.headers["content-type"])
            );
            assert_eq!(again.headers["idempotent-replayed"], "true");
        }
        assert_eq!(runtime.counts.started(), before + 1, "{script}");
        // Another key is another request.
        execute(&controller, &id, "key-2", BODY)
            .await
            .expect(status);
        assert_eq!(runtime.counts.started(), before + 2, "{script}");
    }
}

#[tokio::test]
async fn a_key_is_for_one_request_of_one_caller() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let controller = Controller::start(&redis, &runtime).await;
    let id = controller.session("python-x", "echo").await;
    execute(&controller, &id, "key", BODY).await.expect(200);
    let refused = execute(&controller, &id, "key", r#"{"params": {"a": 2}}"#)
        .await
        .expect(400);
    assert!(refused.message().contains("another request"), "{refused:?}");
    let path = format!("/api/v1/execute/{id}");
    let headers = [JSON, ("idempotency-key", "key"), ("x-timeout-seconds", "3")];
    controller
        .call("POST", &path, &headers, BODY.as_bytes())
        .await
        .expect(400);
    assert_eq!(runtime.counts.started(), 1);
    // Without a user a session is a caller.
    let another = controller.session("python-x", "echo").await;
    execute(&controller, &another, "key", BODY)
        .await
        .expect(200);
    // A user is one with all of its sessions.
    for user in ["one", "other"] {
        let headers = [JSON, ("idempotency-key", "key"), ("x-user-id", user)];
        for (session, status) in [(1, 200), (2, 400)] {
            let id = controller.session_of(user, "python-x", "echo").await;
            let path = format!("/api/v1/execute/{id}");
            let answer = controller
                .call("POST", &path, &headers, BODY.as_bytes())
                .await;
            assert_eq!(
                answer.status, status,
                "session {session} of {user}: {answer:?}"
            );
        }
    }
    for wrong in ["", &"x".repeat(256)] {
        execute(&controller, &id, wrong, BODY).await.expect(400);
    }
}

#[tokio::test]
async fn while_it_runs_the_same_request_is_told_so() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let controller = Controller::start(&redis, &runtime).await;
    let id = controller.session("python-x", "sleep 700").await;
    let beside = async {
        eventually("it runs", Duration::from_secs(2), async || {
            runtime.counts.started() == 1
        })
        .await;
        let refused = execute(&controller, &id, "key", BODY).await.expect(409);
        assert_eq!(
            (refused.code().as_str(), refused.retry_after()),
            ("CONFLICT", 1)
        );
    };
    let (first, ()) = tokio::join!(execute(&controller, &id, "key", BODY), beside);
    first.expect(200);
    execute(&controller, &id, "key", BODY).await.expect(200);
    assert_eq!(runtime.counts.started(), 1);
}

#[tokio::test]
async fn an_execution_goes_on_when_its_caller_goes_away() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let controller = Controller::start(&redis, &runtime).await;
    let id = controller.session("python-x", "sleep 500").await;
    let path = format!("/api/v1/execute/{id}");
    let headers = [JSON, ("idempotency-key", "key")];
    let sent = send(controller.address, request("POST", &path, &headers, BODY));
    tokio::time::timeout(Duration::from_millis(200), sent)
        .await
        .unwrap_err();
    eventually("the answer is there", Duration::from_secs(3), async || {
        execute(&controller, &id, "key", BODY).await.status == 200
    })
    .await;
    assert_eq!(
        (runtime.counts.started(), runtime.counts.cancelled()),
        (1, 0)
    );
}

#[tokio::test]
async fn a_key_is_free_again_where_nothing_ran() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let controller = Controller::start(&redis, &runtime).await;
    for status in [503, 429] {
        let id = controller
            .session("python-x", &format!("status {status} busy"))
            .await;
        for _ in 0..2 {
            let before = runtime.counts.started.load(Ordering::SeqCst);
            execute(&controller, &id, "key", BODY).await.expect(status);
            assert!(runtime.counts.started() > before);
        }
    }
    assert_eq!(
        redis.ask::<Vec<String>>(&["KEYS", "lambda:answer:*"]).await,
        Some(Vec::new())
    );
}

#[tokio::test]
async fn where_the_answer_was_lost_nothing_runs_again() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let controller = Controller::start(&redis, &runtime).await;
    let id = controller.session("python-x", "echo").await;
    execute(&controller, &id, "key", BODY).await.expect(200);
    let kept: Vec<String> = redis.ask(&["KEYS", "lambda:answer:*"]).await.unwrap();
    let text: String = redis.ask(&["GET", &kept[0]]).await.unwrap();
    let (fingerprint, _) = text.split_once(' ').unwrap();
    // As a controller leaves it that dies in the execution.
    let claim = format!("{fingerprint} running 1000 0\n");
    redis
        .ask::<String>(&["SET", &kept[0], &claim])
        .await
        .unwrap();
    let lost = execute(&controller, &id, "key", BODY).await.expect(500);
    assert!(lost.message().contains("may have run"), "{lost:?}");
    assert_eq!(runtime.counts.started(), 1);
}

#[tokio::test]
async fn an_answer_too_large_to_keep_is_told_as_such() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let limits = [("MAX_KEPT_BYTES_PER_CALLER", "50000")];
    let controller = Controller::start_with(&redis.url(), &runtime.url(), &limits).await;
    // More than is ever kept; and more than this caller may keep.
    for script in ["large 300000", "large 60000"] {
        let id = controller.session("python-x", script).await;
        execute(&controller, &id, "key", BODY).await.expect(200);
        let again = execute(&controller, &id, "key", BODY).await.expect(409);
        assert!(again.message().contains("answered with 200"), "{again:?}");
    }
    assert_eq!(runtime.counts.started(), 2);
}
