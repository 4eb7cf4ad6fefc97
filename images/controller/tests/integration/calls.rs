//! A function called by its name, its versions and its aliases.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::controller::{Controller, JSON};
use crate::support::eventually;
use crate::support::http::Answer;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::runtime::Runtime;

pub struct Platform {
    pub redis: Redis,
    pub runtime: Runtime,
    pub postgres: Postgres,
    pub controller: Controller,
}

impl Platform {
    pub async fn start() -> Self {
        Platform::start_with(&[]).await
    }

    pub async fn start_with(changes: &[(&str, &str)]) -> Self {
        let (redis, runtime) = (Redis::start().await, Runtime::start().await);
        let postgres = Postgres::migrated().await;
        let url = postgres.url("controller");
        let mut all = vec![
            ("DATABASE_URL", url.as_str()),
            ("DATABASE_POOL_SIZE", "3"),
            ("DATABASE_TIMEOUT_SECONDS", "20"),
        ];
        all.extend(changes);
        let controller = Controller::start_with(&redis.url(), &runtime.url(), &all).await;
        Platform {
            redis,
            runtime,
            postgres,
            controller,
        }
    }

    pub async fn another(&self) -> Controller {
        self.another_with_limit("100").await
    }

    pub async fn another_with_limit(&self, functions: &str) -> Controller {
        let url = self.postgres.url("controller");
        let changes = [
            ("DATABASE_URL", url.as_str()),
            ("DATABASE_POOL_SIZE", "3"),
            ("DATABASE_TIMEOUT_SECONDS", "20"),
            ("MAX_FUNCTIONS_PER_USER", functions),
        ];
        Controller::start_with(&self.redis.url(), &self.runtime.url(), &changes).await
    }
}

/// Asks with a user, or without one where that is empty.
pub async fn ask(
    controller: &Controller,
    method: &str,
    path: &str,
    user: &str,
    body: &Value,
) -> Answer {
    let mut headers = vec![JSON];
    if !user.is_empty() {
        headers.push(("x-user-id", user));
    }
    let path = format!("/api/v1/functions/{path}");
    let body = body.to_string();
    controller
        .call(method, &path, &headers, body.as_bytes())
        .await
}

async fn call(controller: &Controller, path: &str, user: &str) -> Answer {
    ask(controller, "POST", path, user, &json!({})).await
}

async fn version_of(controller: &Controller, path: &str) -> i64 {
    let answer = call(controller, path, "bob").await.expect(200);
    answer.json()["version"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_call_does_what_initialize_and_execute_do() {
    let Platform {
        controller,
        runtime,
        postgres,
        ..
    } = &Platform::start().await;
    controller
        .register("python-hello", "alice", "echo \u{0}\u{1F980}")
        .await
        .expect(201);
    let body = json!({"params": {"n": 9007199254740992u64}, "context": {"a": "\u{e4}"}});
    let answer = ask(controller, "POST", "python-hello", "bob", &body).await;
    let answer = answer.expect(200).json();
    assert_eq!(answer["version"], 1);
    assert_eq!(
        (&answer["result"]["params"], &answer["result"]["context"]),
        (&body["params"], &body["context"])
    );
    assert_eq!(answer["result"]["id"], answer["request_id"]);
    let sent = |name: &str| {
        let headers = runtime.counts.last_headers.lock().unwrap();
        let value = headers.get(name);
        value.map(|value| value.to_str().unwrap().to_owned())
    };
    // Whose process and whose share: as a session's of that user.
    assert_eq!(sent("x-caller").as_deref(), Some("user bob"));
    assert_eq!(sent("x-account").as_deref(), Some("user bob"));
    assert_eq!(sent("x-timeout-seconds"), None);
    let nobody = call(controller, "python-hello", "")
        .await
        .expect(200)
        .json();
    let id = nobody["request_id"].as_str().unwrap().to_owned();
    assert_eq!(
        sent("x-caller"),
        Some(format!("session {id}")),
        "nobody's calls have nothing in common"
    );
    assert_eq!(sent("x-account").as_deref(), Some("anonymous"));
    assert_eq!(nobody["result"]["context"], json!({}));
    let missing = call(controller, "python-none", "bob").await.expect(404);
    assert_eq!(missing.code(), "NOT_FOUND");
    assert_eq!(runtime.counts.started(), 2);
    let series = "lambda_controller_requests_total{route=\"call_function\",method=\"POST\",status=";
    for (status, requests) in [("2xx", 2.0), ("4xx", 1.0)] {
        let series = format!("{series}\"{status}\"}}");
        assert_eq!(controller.metric(&series).await, requests, "{series}");
    }
    let overhead = "lambda_controller_overhead_seconds_count ";
    assert!(controller.metric(overhead).await >= 2.0);
    eventually("it is in the statistics", Duration::from_secs(8), async || {
        let rows = format!(
            "SELECT count(*) FROM meta.request_logs WHERE route = 'call_function' AND status = 200 \
             AND language = 'python' AND request_id = '{id}'"
        );
        postgres.count(&rows).await == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_call_is_told_once_and_nothing_runs() {
    let Platform {
        controller,
        runtime,
        ..
    } = &Platform::start_with(&[("MAX_CONTEXT_SIZE", "100")]).await;
    controller
        .register("rust-x", "alice", "echo")
        .await
        .expect(201);
    let path = "/api/v1/functions/rust-x";
    let large = format!(r#"{{"context": "{}"}}"#, "x".repeat(100));
    for (status, body, message) in [
        (
            400,
            &b"{\"params\": \"\xff\"}"[..],
            "not UTF-8 from byte 12 on",
        ),
        (400, b"{\"params\": \"\\ud800\"}", "params is no JSON"),
        (400, b"{\"params\": 1e999}", "params is no JSON"),
        (400, b"{\"context\": \"\\ud800\"}", "context is no JSON"),
        (400, b"{\"script_content\": \"x\"}", "unknown field"),
        (400, b"[]", "JSON object"),
        (400, b"", "JSON object"),
        (413, large.as_bytes(), "context has 102 bytes"),
    ] {
        let answer = controller.call("POST", path, &[JSON], body).await;
        let answer = answer.expect(status);
        assert!(answer.message().contains(message), "{answer:?}");
    }
    for (status, query, message) in [
        (404, "version=2", "no version 2"),
        (
            404,
            "version=9007199254740992",
            "no version 9007199254740992",
        ),
        (404, "version=live", "no alias live"),
        (400, "version=", "it is \"\""),
        (400, "version=0", "it is \"0\""),
        (400, "version=1e3", "it is \"1e3\""),
        (
            400,
            "version=9223372036854775808",
            "version must be the number",
        ),
        (400, "version=%ff", "version must be the number"),
        (400, "version=1&version=2", "query"),
        (400, "alias=live", "query"),
    ] {
        let answer = call(controller, &format!("rust-x?{query}"), "bob").await;
        let answer = answer.expect(status);
        assert!(answer.message().contains(message), "{query}: {answer:?}");
    }
    let headers = [JSON, ("x-timeout-seconds", "31")];
    let answer = controller.call("POST", path, &headers, b"{}").await;
    assert!(answer.expect(400).message().contains("X-Timeout-Seconds"));
    assert_eq!(runtime.counts.started(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_runs_a_call_once() {
    let platform = Platform::start().await;
    let (controller, other) = (&platform.controller, platform.another().await);
    for title in ["rust-x", "rust-y"] {
        controller
            .register(title, "alice", "echo")
            .await
            .expect(201);
    }
    let send = async |controller: &Controller, path: &str, user: Option<&str>, body: &str| {
        let mut headers = vec![JSON, ("idempotency-key", "k")];
        headers.extend(user.map(|user| ("x-user-id", user)));
        let path = format!("/api/v1/functions/{path}");
        controller
            .call("POST", &path, &headers, body.as_bytes())
            .await
    };
    for user in [Some("bob"), None] {
        let before = platform.runtime.counts.started();
        let first = send(controller, "rust-x", user, "{}").await.expect(200);
        let again = send(&other, "rust-x", user, "{}").await.expect(200);
        assert_eq!(first.json(), again.json());
        assert_eq!(again.headers["idempotent-replayed"], "true");
        for (path, body) in [
            ("rust-y", "{}"),
            ("rust-x", "{ }"),
            ("rust-x?version=1", "{}"),
        ] {
            let answer = send(&other, path, user, body).await.expect(400);
            assert!(answer.message().contains("another request"), "{answer:?}");
        }
        assert_eq!(platform.runtime.counts.started(), before + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_never_change_and_latest_is_the_newest() {
    let platform = Platform::start_with(&[("MAX_VERSIONS_PER_FUNCTION", "4")]).await;
    let controller = &platform.controller;
    for script in ["echo 1", "status 422 two", "status 422 two", "echo 3"] {
        controller.register("rust-x", "alice", script).await;
    }
    assert_eq!(version_of(controller, "rust-x").await, 3);
    assert_eq!(version_of(controller, "rust-x?version=latest").await, 3);
    assert_eq!(version_of(controller, "rust-x?version=1").await, 1);
    let failed = call(controller, "rust-x?version=2", "bob").await;
    assert_eq!(failed.expect(422).message(), "two");
    // Another limit or environment is another version, too; what is not said stays.
    let body = json!({"script_content": "echo 3", "timeout_seconds": 2.5});
    let put = async |body: &Value| {
        let answer = ask(controller, "PUT", "rust-x", "alice", body).await;
        answer.expect(200).json()
    };
    assert_eq!(put(&body).await["version"], 4);
    assert_eq!(put(&body).await["version"], 4);
    let body = json!({"script_content": "echo 3"});
    assert_eq!(put(&body).await["timeout_seconds"], 2.5);
    let listed = async |query: &str| {
        let path = format!("/api/v1/functions/rust-x/versions{query}");
        let answer = controller.get(&path).await.expect(200).json();
        let numbers: Vec<_> = answer["versions"].as_array().unwrap().clone();
        let numbers: Vec<_> = numbers.iter().map(|one| one["version"].clone()).collect();
        (json!(numbers), answer["next"].clone())
    };
    assert_eq!(listed("").await, (json!([4, 3, 2, 1]), Value::Null));
    assert_eq!(listed("?per_page=2").await, (json!([4, 3]), json!("3")));
    let rest = listed("?per_page=2&after=3").await;
    assert_eq!(rest, (json!([2, 1]), Value::Null));
    for wrong in ["?after=x", "?per_page=0", "?per_page=101", "?page=1"] {
        let path = format!("/api/v1/functions/rust-x/versions{wrong}");
        controller.get(&path).await.expect(400);
    }
    // The oldest goes that no alias names.
    let one = json!({"versions": {"1": 100}});
    ask(controller, "PUT", "rust-x/aliases/live", "alice", &one)
        .await
        .expect(200);
    assert_eq!(
        put(&json!({"script_content": "echo 5"})).await["version"],
        5
    );
    assert_eq!(listed("").await.0, json!([5, 4, 3, 1]));
    let gone = call(&platform.another().await, "rust-x?version=2", "bob").await;
    assert!(gone.expect(404).message().contains("no version 2"));
    for version in [3, 4, 5] {
        let alias = format!("rust-x/aliases/v{version}");
        let body = json!({"versions": {version.to_string(): 100}});
        ask(controller, "PUT", &alias, "alice", &body)
            .await
            .expect(200);
    }
    let refused = controller.register("rust-x", "alice", "echo 6").await;
    assert!(refused.expect(400).message().contains("keeps 4 versions"));
    assert_eq!(listed("").await.0, json!([5, 4, 3, 1]));
    // A session keeps the script with which it began, and its limit.
    let body = json!({"script_content": "sleep 60000", "timeout_seconds": 0.2});
    ask(controller, "PUT", "rust-y", "alice", &body)
        .await
        .expect(201);
    let session = controller.initialize_registered("rust-y").await.json();
    controller.register("rust-y", "alice", "echo").await;
    let id = session["request_id"].as_str().unwrap();
    let answer = controller.execute(id, json!({})).await.expect(504);
    assert!(answer.message().contains("0.2 s"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_leads_to_versions_by_weight_and_back_to_earlier_ones() {
    let platform = Platform::start().await;
    let (controller, other) = (&platform.controller, platform.another().await);
    for script in ["echo 1", "echo 2", "echo 3"] {
        controller.register("rust-x", "alice", script).await;
    }
    let set = async |user: &str, alias: &str, versions: Value| {
        let path = format!("rust-x/aliases/{alias}");
        ask(
            controller,
            "PUT",
            &path,
            user,
            &json!({"versions": versions}),
        )
        .await
    };
    let alias = set("alice", "live", json!({"2": 70, "3": 30})).await;
    assert_eq!(
        alias.expect(200).json()["versions"],
        json!({"2": 70, "3": 30})
    );
    let mut seen: BTreeMap<i64, i64> = BTreeMap::new();
    for _ in 0..200 {
        let version = version_of(controller, "rust-x?version=live").await;
        *seen.entry(version).or_default() += 1;
    }
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), [2, 3]);
    // Five standard deviations.
    assert!((108..=172).contains(&seen[&2]), "{seen:?}");
    version_of(&other, "rust-x?version=live").await;
    // Back: every replica has it within a second, and latest stays.
    set("alice", "live", json!({"1": 100})).await.expect(200);
    let switched = Instant::now();
    for controller in [controller, &other] {
        while version_of(controller, "rust-x?version=live").await != 1 {
            assert!(switched.elapsed() < Duration::from_secs(1));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(version_of(controller, "rust-x").await, 3);
    }
    for (versions, message) in [
        (json!({"1": 90}), "add up to 90"),
        (json!({"1": 50, "9": 50}), "names 9"),
        (json!({"9007199254740992": 100}), "names 9007199254740992"),
        (json!({"1": 9007199254740992u64}), "from 1 to 100"),
        (json!({"1": 0, "2": 100}), "from 1 to 100"),
        (json!({"latest": 100}), "not the number of a version"),
        (json!({}), "add up to 0"),
        (json!({"1": 99.5, "2": 0.5}), "not as described"),
        (json!([100]), "not as described"),
    ] {
        let answer = set("alice", "live", versions).await.expect(400);
        assert!(answer.message().contains(message), "{answer:?}");
    }
    for alias in ["latest", "1", "-", "a%20b", &"x".repeat(64)] {
        set("alice", alias, json!({"1": 100})).await.expect(400);
    }
    let refused = set("bob", "live", json!({"2": 100})).await.expect(403);
    assert_eq!(refused.code(), "FORBIDDEN");
    let one = json!({"versions": {"1": 100}});
    let none = ask(controller, "PUT", "rust-z/aliases/live", "bob", &one);
    none.await.expect(404);
    set("alice", "a", json!({"3": 100})).await.expect(200);
    let list = controller.get("/api/v1/functions/rust-x/aliases").await;
    let list = list.expect(200).json();
    let names = list["aliases"].as_array().unwrap().iter();
    assert_eq!(
        names.map(|alias| &alias["alias"]).collect::<Vec<_>>(),
        ["a", "live"]
    );
    let live = "/api/v1/functions/rust-x/aliases/live";
    let shown = controller.get(live).await.expect(200).json();
    assert_eq!(shown["versions"], json!({"1": 100}));
    for (user, status) in [("bob", 403), ("", 400), ("alice", 200), ("alice", 404)] {
        let removed = ask(
            controller,
            "DELETE",
            "rust-x/aliases/live",
            user,
            &json!(null),
        )
        .await;
        removed.expect(status);
    }
    controller.get(live).await.expect(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_has_a_time_limit_and_an_environment() {
    let Platform {
        controller,
        runtime,
        ..
    } = &Platform::start_with(&[("RUNTIME_TIMEOUT_SECONDS", "5")]).await;
    let put = async |body: &Value| ask(controller, "PUT", "nodejs-x", "alice", body).await;
    let body = json!({
        "script_content": "echo", "timeout_seconds": 2.5, "environment": {"STAGE": "test", "_1": "\u{0}\u{1F980}"},
    });
    let shown = put(&body).await.expect(201).json();
    assert_eq!(shown["environment"], body["environment"]);
    let others = controller.get("/api/v1/functions/nodejs-x").await.json();
    assert!(others["environment"].is_null() && others["visibility"].is_null());
    assert_eq!(others["timeout_seconds"], 2.5);
    let limit = || {
        let headers = runtime.counts.last_headers.lock().unwrap();
        headers["x-timeout-seconds"].to_str().unwrap().to_owned()
    };
    let path = "/api/v1/functions/nodejs-x";
    let context = br#"{"context": {"environment": 1, "b": 2}}"#;
    // The shorter of both holds.
    for (asked, holds) in [(None, "2.5"), (Some("1"), "1"), (Some("4"), "2.5")] {
        let mut headers = vec![JSON];
        headers.extend(asked.map(|limit| ("x-timeout-seconds", limit)));
        let answer = controller.call("POST", path, &headers, context).await;
        let seen = answer.expect(200).json()["result"]["context"].clone();
        assert_eq!(seen, json!({"b": 2, "environment": body["environment"]}));
        assert_eq!(limit(), holds);
    }
    let answer = controller
        .call("POST", path, &[JSON], br#"{"context": []}"#)
        .await
        .expect(400);
    assert!(answer.message().contains("must be an object"), "{answer:?}");
    // A session of it has both, too.
    let session = controller.initialize_registered("nodejs-x").await.json();
    let id = session["request_id"].as_str().unwrap();
    let answer = controller.execute(id, json!({})).await.expect(200).json();
    assert_eq!(
        answer["result"]["context"]["environment"],
        body["environment"]
    );
    assert_eq!(limit(), "2.5");
    let cleared = json!({"script_content": "echo", "timeout_seconds": null, "environment": {}});
    let cleared = put(&cleared).await.expect(200).json();
    assert!(cleared["timeout_seconds"].is_null() && cleared["version"] == 2);
    for (field, value, message) in [
        ("timeout_seconds", json!(6), "from 0.001 to 5"),
        ("timeout_seconds", json!(0), "from 0.001 to 5"),
        ("timeout_seconds", json!("2"), "not as described"),
        ("environment", json!({"A B": "x"}), "a name is"),
        ("environment", json!({"A": 1}), "not as described"),
        ("environment", json!(null), "not as described"),
        (
            "environment",
            json!({"A": "x".repeat(16 << 10)}),
            "at most 16384",
        ),
        ("visibility", json!("public"), "not as described"),
        ("visibility", json!(null), "not as described"),
        ("visibility", json!({"callers": []}), "1 to 100"),
        ("visibility", json!({"callers": ["a", "a"]}), "twice"),
        ("visibility", json!({"callers": ["a b"]}), "visible ASCII"),
        ("layers", json!([]), "unknown field"),
    ] {
        let answer = put(&json!({"script_content": "echo", field: value})).await;
        let answer = answer.expect(400);
        assert!(answer.message().contains(message), "{field}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn most_calls_ask_no_database() {
    let platform = Platform::start().await;
    let controller = &platform.controller;
    controller
        .register("rust-x", "alice", "echo")
        .await
        .expect(201);
    let reads = "lambda_controller_database_duration_seconds_count{work=\"read\"}";
    version_of(controller, "rust-x").await;
    let (before, start) = (controller.metric(reads).await, Instant::now());
    for _ in 0..100 {
        version_of(controller, "rust-x").await;
    }
    // One look in half a second.
    let most = 1.0 + start.elapsed().as_secs_f64() / 0.5;
    let asked = controller.metric(reads).await - before;
    assert!(asked <= most, "{asked} reads, {most} at most");
}
