//! What callers keep in Redis is bounded for each, counted exactly, and never makes Redis evict anything.

use std::time::Duration;

use serde_json::json;

use crate::support::controller::{Controller, JSON};
use crate::support::eventually;
use crate::support::http::Answer;
use crate::support::redis::Redis;
use crate::support::runtime::Runtime;

async fn initialize(controller: &Controller, who: (&str, &str), script: &str) -> Answer {
    let headers = [JSON, ("language-title", "python-x"), who];
    let body = json!({"script_content": script}).to_string();
    controller
        .call("POST", "/api/v1/initialize", &headers, body.as_bytes())
        .await
}

async fn keys(redis: &Redis, pattern: &str) -> Vec<String> {
    redis.ask(&["KEYS", pattern]).await.unwrap()
}

/// What Redis counts, against what is there.
async fn assert_counted(redis: &Redis) {
    for sizes in keys(redis, "lambda:kept:*:sizes").await {
        let index = sizes.strip_suffix(":sizes").unwrap();
        let members: Vec<String> = redis.ask(&["ZRANGE", index, "0", "-1"]).await.unwrap();
        let mut bytes = 0;
        for key in &members {
            let length: i64 = redis.ask(&["STRLEN", key]).await.unwrap();
            assert!(length > 0, "{key}");
            bytes += length + key.len() as i64 + 400;
        }
        let all: i64 = redis.ask(&["HGET", &sizes, "all"]).await.unwrap();
        assert_eq!(all, bytes, "{index}");
        let fields: usize = redis.ask(&["HLEN", &sizes]).await.unwrap();
        assert_eq!(fields, members.len() + 1, "{index}");
    }
}

#[tokio::test]
async fn a_script_is_kept_once_for_each_caller() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let controller = Controller::start(&redis, &runtime).await;
    for _ in 0..3 {
        initialize(&controller, ("x-user-id", "one"), "echo")
            .await
            .expect(200);
    }
    assert_eq!(keys(&redis, "lambda:script:*").await.len(), 1);
    initialize(&controller, ("x-user-id", "other"), "echo")
        .await
        .expect(200);
    initialize(&controller, ("x-forwarded-for", "10.0.0.1"), "echo")
        .await
        .expect(200);
    assert_eq!(keys(&redis, "lambda:script:*").await.len(), 3);
    assert_eq!(keys(&redis, "lambda:session:*").await.len(), 5);
    assert_counted(&redis).await;
}

#[tokio::test]
async fn a_caller_keeps_so_many_and_no_other_feels_it() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    // A script and three sessions.
    let limits = [
        ("MAX_KEPT_PER_CALLER", "4"),
        ("SESSION_EXPIRY_SECONDS", "2"),
    ];
    let controller = Controller::start_with(&redis.url(), &runtime.url(), &limits).await;
    for who in [("x-user-id", "one"), ("x-forwarded-for", "10.0.0.1")] {
        for _ in 0..3 {
            initialize(&controller, who, "echo").await.expect(200);
        }
        let refused = initialize(&controller, who, "echo").await.expect(429);
        assert_eq!(refused.code(), "RATE_LIMITED");
        assert!((1..=3).contains(&refused.retry_after()), "{refused:?}");
        assert!(
            refused.message().contains("keeps 4 sessions"),
            "{refused:?}"
        );
    }
    initialize(&controller, ("x-user-id", "other"), "echo")
        .await
        .expect(200);
    assert_counted(&redis).await;
    let refused = "lambda_controller_kept_refused_total{reason=\"keys\"}";
    assert_eq!(controller.metric(refused).await, 2.0);
    eventually(
        "what expires makes room",
        Duration::from_secs(5),
        async || {
            let answer = initialize(&controller, ("x-user-id", "one"), "echo").await;
            answer.status == 200
        },
    )
    .await;
}

#[tokio::test]
async fn a_caller_keeps_so_many_bytes() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let limits = [("MAX_KEPT_BYTES_PER_CALLER", "100000")];
    let controller = Controller::start_with(&redis.url(), &runtime.url(), &limits).await;
    let one = ("x-user-id", "one");
    let script = |number: usize| format!("echo {number} {}", "x".repeat(30_000));
    for number in 0..3 {
        initialize(&controller, one, &script(number))
            .await
            .expect(200);
    }
    let refused = initialize(&controller, one, &script(3)).await.expect(429);
    assert!(refused.message().contains("100000 bytes"), "{refused:?}");
    // A session of a script that is there takes little.
    initialize(&controller, one, &script(2)).await.expect(200);
    initialize(&controller, ("x-user-id", "other"), &script(3))
        .await
        .expect(200);
    assert_counted(&redis).await;
}

#[tokio::test]
async fn callers_without_a_user_count_together_too() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let limits = [("MAX_KEPT_BYTES_ANONYMOUS", "100000")];
    let controller = Controller::start_with(&redis.url(), &runtime.url(), &limits).await;
    let script = "echo ".to_owned() + &"x".repeat(30_000);
    for address in ["10.0.0.1", "10.0.0.2", "10.0.0.3"] {
        initialize(&controller, ("x-forwarded-for", address), &script)
            .await
            .expect(200);
    }
    let another = ("x-forwarded-for", "10.0.0.4");
    let refused = initialize(&controller, another, &script).await.expect(429);
    assert!(
        refused.message().contains("all callers without a user"),
        "{refused:?}"
    );
    initialize(&controller, ("x-user-id", "one"), &script)
        .await
        .expect(200);
    assert_counted(&redis).await;
}

#[tokio::test]
async fn a_full_redis_refuses_new_sessions_and_keeps_those_it_has() {
    let policy = ["--maxmemory", "8mb", "--maxmemory-policy", "allkeys-lru"];
    let redis = Redis::start_with(crate::support::free_port(), &policy).await;
    let runtime = Runtime::start().await;
    let controller = Controller::start_with(
        &redis.url(),
        &runtime.url(),
        &[("MAX_SCRIPT_SIZE", "100000")],
    )
    .await;
    redis
        .ask::<i64>(&["INCRBY", "lambda:ratelimit:x", "7"])
        .await
        .unwrap();
    let mut sessions = Vec::new();
    let refused = loop {
        let user = format!("user-{}", sessions.len());
        let script = format!("echo {}", "x".repeat(50_000));
        let answer = initialize(&controller, ("x-user-id", &user), &script).await;
        if answer.status != 200 {
            break answer;
        }
        sessions.push((
            user,
            answer.json()["request_id"].as_str().unwrap().to_owned(),
        ));
        assert!(sessions.len() < 200, "8 MB hold no 200 of these");
    };
    assert_eq!(refused.expect(503).code(), "UNAVAILABLE");
    assert!(sessions.len() > 20, "{}", sessions.len());
    for (user, id) in &sessions {
        let path = format!("/api/v1/sessions/{id}");
        controller
            .call("GET", &path, &[("x-user-id", user)], b"")
            .await
            .expect(200);
    }
    assert_eq!(
        redis.ask::<i64>(&["GET", "lambda:ratelimit:x"]).await,
        Some(7)
    );
    let statistics: String = redis.ask(&["INFO", "stats"]).await.unwrap();
    assert!(statistics.contains("evicted_keys:0\r\n"), "{statistics}");
}

#[tokio::test]
async fn the_id_of_a_session_without_a_user_is_not_listed() {
    let postgres = crate::support::postgres::Postgres::migrated().await;
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let url = postgres.url("controller");
    let controller = Controller::with_database(&redis, &runtime, &url).await;
    let nobodys = controller.session("python-x", "echo").await;
    let users = controller.session_of("one", "python-x", "echo").await;
    controller.execute(&nobodys, json!({})).await.expect(200);
    let count = async |id: &str| {
        let (sessions, logs) = (
            format!("SELECT count(*) FROM meta.sessions WHERE request_id = '{id}'"),
            format!("SELECT count(*) FROM meta.request_logs WHERE request_id = '{id}'"),
        );
        (postgres.count(&sessions).await, postgres.count(&logs).await)
    };
    let masked = format!("{}-0000-000000000000", &nobodys[..18]);
    eventually("the rows are there", Duration::from_secs(5), async || {
        count(&users).await == (1, 1) && count(&masked).await == (1, 2)
    })
    .await;
    assert_eq!(count(&nobodys).await, (0, 0));
}
