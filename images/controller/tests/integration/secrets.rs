//! What owners keep secret: who is given it, who is shown it, and what a key that is turned opens.

use std::fs;
use std::process::Command;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::calls::{Platform, ask};
use crate::support::controller::{Controller, JSON};
use crate::support::eventually;
use crate::support::http::Answer;

const HIDDEN: &str = "hunter2-\u{e4}-not-to-be-seen";

/// The files of the keys, as the platform mounts them.
struct Keys(TempDir);

impl Keys {
    fn new() -> Self {
        let keys = Keys(tempfile::tempdir().unwrap());
        keys.set("first", "nobody's");
        keys
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn set(&self, key: &str, previous: &str) {
        for (name, word) in [("key", key), ("previous", previous)] {
            fs::write(self.path(name), Keys::text(word)).unwrap();
        }
    }

    fn text(word: &str) -> String {
        format!("{word:-<43}")
    }

    async fn platform(&self) -> Platform {
        let (key, previous) = (self.path("key"), self.path("previous"));
        Platform::start_with(&[
            ("SECRETS_KEY_FILE", key.as_str()),
            ("SECRETS_KEY_PREVIOUS_FILE", previous.as_str()),
        ])
        .await
    }

    async fn another(&self, platform: &Platform) -> Controller {
        let url = platform.postgres.url("controller");
        let (key, previous) = (self.path("key"), self.path("previous"));
        let changes = [
            ("DATABASE_URL", url.as_str()),
            ("DATABASE_TIMEOUT_SECONDS", "20"),
            ("SECRETS_KEY_FILE", &key),
            ("SECRETS_KEY_PREVIOUS_FILE", &previous),
        ];
        let (redis, runtime) = (platform.redis.url(), platform.runtime.url());
        Controller::start_with(&redis, &runtime, &changes).await
    }

    /// The exit code of a command for the key of this word.
    fn command(&self, platform: &Platform, command: &str, word: &str) -> Option<i32> {
        let digest = Sha256::digest(Keys::text(word));
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let output = Command::new(env!("CARGO_BIN_EXE_lambda-controller"))
            .args([command, &digest])
            .env_clear()
            .envs([
                ("REDIS_URL", platform.redis.url()),
                ("NODEJS_RUNTIME_URL", platform.runtime.url()),
                ("PYTHON_RUNTIME_URL", platform.runtime.url()),
                ("RUST_RUNTIME_URL", platform.runtime.url()),
                ("DATABASE_URL", platform.postgres.url("controller")),
                ("SECRETS_KEY_FILE", self.path("key")),
                ("SECRETS_KEY_PREVIOUS_FILE", self.path("previous")),
            ])
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(!said.contains("---") && !said.contains(HIDDEN), "{said}");
        output.status.code()
    }
}

async fn secret(
    controller: &Controller,
    method: &str,
    name: &str,
    user: &str,
    body: &Value,
) -> Answer {
    let path = format!("/api/v1/secrets{name}");
    let headers = [JSON, ("x-user-id", user)];
    let headers = if user.is_empty() {
        &headers[..1]
    } else {
        &headers
    };
    let body = body.to_string();
    controller
        .call(method, &path, headers, body.as_bytes())
        .await
}

async fn put(controller: &Controller, name: &str, user: &str, value: &str) -> Answer {
    let body = json!({"value": value});
    secret(controller, "PUT", &format!("/{name}"), user, &body).await
}

async fn register(controller: &Controller, path: &str, user: &str, secrets: &[&str]) -> Answer {
    let body = json!({"script_content": "echo", "secrets": secrets});
    ask(controller, "PUT", path, user, &body).await
}

/// What the script has of secrets.
async fn seen(controller: &Controller, path: &str, user: &str) -> Value {
    let body = json!({"context": {"secrets": "the caller's", "a": 1}});
    let answer = ask(controller, "POST", path, user, &body).await.expect(200);
    let context = answer.json()["result"]["context"].clone();
    assert_eq!(context["a"], 1);
    context["secrets"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_given_to_its_owners_scripts_and_shown_nowhere() {
    let keys = Keys::new();
    let platform = keys.platform().await;
    let (controller, runtime) = (&platform.controller, &platform.runtime);
    let made = put(controller, "TOKEN", "alice", HIDDEN).await.expect(201);
    assert_eq!(made.json()["name"], "TOKEN");
    put(controller, "TOKEN", "alice", HIDDEN).await.expect(200);
    put(controller, "_k1", "alice", "\u{0}\"").await.expect(201);
    put(controller, "TOKEN", "bob", "bob's").await.expect(201);
    let list = secret(controller, "GET", "", "alice", &json!(null)).await;
    let names: Vec<_> = list.expect(200).json()["secrets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["name"].clone())
        .collect();
    assert_eq!(names, ["TOKEN", "_k1"]);
    let both = ["_k1", "TOKEN"];
    let function = register(controller, "rust-x", "alice", &both).await;
    let function = function.expect(201).json();
    assert_eq!(function["secrets"], json!(["TOKEN", "_k1"]));
    let given = json!({"TOKEN": HIDDEN, "_k1": "\u{0}\""});
    for user in ["alice", "bob", ""] {
        assert_eq!(seen(controller, "rust-x", user).await, given, "{user}");
    }
    // Not in a process that has run for anything else.
    ask(controller, "POST", "rust-x", "bob", &json!({}))
        .await
        .expect(200);
    let caller = runtime.counts.last_headers.lock().unwrap()["x-caller"].clone();
    let caller = caller.to_str().unwrap();
    assert!(caller.starts_with("user bob secrets of "), "{caller}");
    // The owner alone is told which.
    let shown = ask(controller, "GET", "rust-x", "bob", &json!(null)).await;
    assert!(shown.json()["secrets"].is_null(), "{shown:?}");
    // A session keeps none; each execution is given them.
    let headers = [JSON, ("language-title", "rust-x"), ("x-user-id", "bob")];
    let session = controller
        .call(
            "POST",
            "/api/v1/initialize",
            &headers,
            br#"{"context": {"secrets": 1, "a": 1}}"#,
        )
        .await
        .expect(200);
    let id = session.json()["request_id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/execute/{id}");
    let executed = controller.call("POST", &path, &headers, b"{}").await;
    let context = executed.expect(200).json()["result"]["context"].clone();
    assert_eq!(context, json!({"a": 1, "secrets": given}));
    let no_object = controller
        .call(
            "POST",
            "/api/v1/initialize",
            &headers,
            br#"{"context": []}"#,
        )
        .await;
    assert!(no_object.expect(400).message().contains("secrets"));
    let keys: Vec<String> = platform.redis.ask(&["KEYS", "*"]).await.unwrap();
    assert!(keys.contains(&format!("lambda:session:{id}")), "{keys:?}");
    for key in keys {
        let text: Option<Vec<u8>> = platform.redis.ask(&["GET", &key]).await;
        let text = String::from_utf8_lossy(&text.unwrap_or_default()).into_owned();
        assert!(!text.contains("hunter2"), "{text}");
    }
    // A dump of all that PostgreSQL has: as text, as hexadecimal digits, and escaped as JSON is.
    eventually(
        "requests are in the database",
        Duration::from_secs(8),
        async || {
            let logged = "SELECT count(*) FROM meta.request_logs WHERE route = 'put_secret'";
            platform.postgres.count(logged).await == 4
        },
    )
    .await;
    let dump = platform.postgres.dump();
    let hexadecimal = |text: &str| -> String {
        let bytes = text.bytes();
        bytes.map(|byte| format!("{byte:02x}")).collect()
    };
    assert!(dump.contains("COPY meta.secrets") && dump.contains("TOKEN"));
    assert!(dump.contains(&hexadecimal("echo")), "scripts are in it so");
    for part in ["hunter2", "not-to-be-seen", "bob's"] {
        assert!(
            !dump.contains(part) && !dump.contains(&hexadecimal(part)),
            "{part}"
        );
    }
    assert!(!dump.contains("first---") && !dump.contains(&hexadecimal("first---")));
    let metrics = controller.metrics().await;
    assert!(!metrics.contains("hunter2") && metrics.contains("route=\"put_secret\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_secret_is_at_every_replica_within_a_second_and_makes_no_version() {
    let keys = Keys::new();
    let platform = keys.platform().await;
    let (one, other) = (&platform.controller, &keys.another(&platform).await);
    put(one, "TOKEN", "alice", "1").await.expect(201);
    register(one, "rust-x", "alice", &["TOKEN"])
        .await
        .expect(201);
    for controller in [one, other] {
        assert_eq!(seen(controller, "rust-x", "bob").await["TOKEN"], "1");
    }
    let caller = || platform.runtime.counts.last_headers.lock().unwrap()["x-caller"].clone();
    let before = caller();
    put(one, "TOKEN", "alice", "2").await.expect(200);
    assert_eq!(seen(one, "rust-x", "bob").await["TOKEN"], "2");
    assert_ne!(caller(), before, "a process that has seen the value before");
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert_eq!(seen(other, "rust-x", "bob").await["TOKEN"], "2");
    let same = register(one, "rust-x", "alice", &["TOKEN"]).await;
    assert_eq!(same.expect(200).json()["version"], 1);
    let none = register(one, "rust-x", "alice", &[]).await;
    assert_eq!(none.expect(200).json()["version"], 2);
    assert_eq!(seen(one, "rust-x", "bob").await, "the caller's");
    assert_eq!(seen(one, "rust-x?version=1", "bob").await["TOKEN"], "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_missing_is_told_when_it_is_named_and_when_it_is_needed() {
    let keys = Keys::new();
    let platform = keys.platform().await;
    let (controller, runtime) = (&platform.controller, &platform.runtime);
    put(controller, "TOKEN", "alice", "1").await.expect(201);
    put(controller, "OTHER", "bob", "1").await.expect(201);
    let refused = register(controller, "rust-x", "alice", &["TOKEN", "OTHER"]).await;
    let message = refused.expect(400).message();
    assert!(
        message.contains("secrets names OTHER,") && message.contains("PUT /api/v1/secrets/OTHER")
    );
    assert_eq!(
        ask(controller, "GET", "rust-x", "alice", &json!(null))
            .await
            .status,
        404
    );
    register(controller, "rust-x", "alice", &["TOKEN"])
        .await
        .expect(201);
    let headers = [JSON, ("language-title", "rust-x"), ("x-user-id", "bob")];
    let session = controller
        .call("POST", "/api/v1/initialize", &headers, b"{}")
        .await;
    let id = session.expect(200).json()["request_id"]
        .as_str()
        .unwrap()
        .to_owned();
    secret(controller, "DELETE", "/TOKEN", "alice", &json!(null))
        .await
        .expect(200);
    let gone = secret(controller, "DELETE", "/TOKEN", "alice", &json!(null)).await;
    assert!(gone.expect(404).message().contains("no secret TOKEN"));
    let own = ask(controller, "POST", "rust-x", "alice", &json!({})).await;
    assert!(
        own.expect(404)
            .message()
            .contains("PUT /api/v1/secrets/TOKEN")
    );
    let others = ask(controller, "POST", "rust-x", "bob", &json!({})).await;
    let message = others.expect(404).message();
    assert!(
        message.contains("a secret") && !message.contains("TOKEN"),
        "{message}"
    );
    let path = format!("/api/v1/execute/{id}");
    let executed = controller.call("POST", &path, &headers, b"{}").await;
    assert!(executed.expect(404).message().contains("a secret"));
    assert_eq!(runtime.counts.started(), 0);
    // What changes nothing of a version is not refused for it; a new version is.
    register(controller, "rust-x", "alice", &["TOKEN"])
        .await
        .expect(200);
    let body = json!({"script_content": "echo more"});
    let kept = ask(controller, "PUT", "rust-x", "alice", &body).await;
    assert!(kept.expect(400).message().contains("secrets names TOKEN"));
    put(controller, "TOKEN", "alice", "2").await.expect(201);
    assert_eq!(seen(controller, "rust-x", "bob").await["TOKEN"], "2");
    // A caller who tries again with its key finds that it was free.
    let key = ("idempotency-key", "k");
    secret(controller, "DELETE", "/TOKEN", "alice", &json!(null))
        .await
        .expect(200);
    let headers = [JSON, ("x-user-id", "alice"), key];
    let path = "/api/v1/functions/rust-x";
    controller
        .call("POST", path, &headers, b"{}")
        .await
        .expect(404);
    put(controller, "TOKEN", "alice", "3").await.expect(201);
    controller
        .call("POST", path, &headers, b"{}")
        .await
        .expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_secret_is_refused_and_no_number_of_them_gets_beyond_the_limit() {
    let keys = Keys::new();
    let platform = keys.platform().await;
    let (one, other) = (&platform.controller, &keys.another(&platform).await);
    for (name, user, body, status, said) in [
        (
            "/A-B",
            "alice",
            json!({"value": "x"}),
            400,
            "the name in the path",
        ),
        (
            "/1A",
            "alice",
            json!({"value": "x"}),
            400,
            "the name in the path",
        ),
        ("/A", "", json!({"value": "x"}), 400, "X-User-ID"),
        ("/A", "alice", json!({"value": ""}), 400, "empty"),
        ("/A", "alice", json!({"value": 7}), 400, "as described"),
        (
            "/A",
            "alice",
            json!({"value": "x", "more": 1}),
            400,
            "unknown field",
        ),
        (
            "/A",
            "alice",
            json!({"value": "x".repeat(8193)}),
            413,
            "8193 bytes",
        ),
    ] {
        let answer = secret(one, "PUT", name, user, &body).await.expect(status);
        assert!(answer.message().contains(said), "{answer:?}");
    }
    put(one, "A", "alice", &"x".repeat(8192)).await.expect(201);
    let mut answers = Vec::new();
    // As many at once as wait for the database.
    for begin in (0..110).step_by(10) {
        let some = (begin..begin + 10).map(|number| async move {
            let controller = if number % 2 == 0 { one } else { other };
            let name = format!("N{number}");
            put(controller, &name, "alice", "x").await.status.as_u16()
        });
        answers.extend(join_all(some).await);
    }
    let made = answers.iter().filter(|status| **status == 201).count();
    assert_eq!(made, 99, "{answers:?}");
    assert!(answers.iter().all(|status| [201, 400].contains(status)));
    put(one, "A", "alice", "again").await.expect(200);
    put(one, "A", "bob", "x").await.expect(201);
    let message = put(one, "LAST", "alice", "x").await.expect(400).message();
    assert!(message.contains("100 secrets"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_turned_without_a_call_that_fails() {
    let keys = Keys::new();
    let platform = keys.platform().await;
    let controller = &platform.controller;
    put(controller, "TOKEN", "alice", "1").await.expect(201);
    register(controller, "rust-x", "alice", &["TOKEN"])
        .await
        .expect(201);
    let reads = async |value: &str| {
        // What is remembered is over.
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert_eq!(seen(controller, "rust-x", "bob").await["TOKEN"], value);
    };
    reads("1").await;
    assert_eq!(
        keys.command(&platform, "has-secrets-key", "second"),
        Some(1)
    );
    assert_eq!(keys.command(&platform, "rewrap", "second"), Some(1));
    keys.set("second", "first");
    reads("1").await;
    // A replica that does not have the new key yet reads what is written meanwhile.
    put(controller, "TOKEN", "alice", "2").await.expect(200);
    keys.set("first", "nobody's");
    reads("2").await;
    keys.set("second", "first");
    assert_eq!(
        keys.command(&platform, "has-secrets-key", "second"),
        Some(0)
    );
    for _ in 0..2 {
        assert_eq!(keys.command(&platform, "rewrap", "second"), Some(0));
    }
    let ids = "SELECT count(DISTINCT key_id) FROM meta.secrets";
    assert_eq!(platform.postgres.count(ids).await, 1);
    keys.set("second", "nobody's");
    reads("2").await;
    put(controller, "TOKEN", "alice", "3").await.expect(200);
    reads("3").await;
    // Without its key nothing is read, and nothing is wrapped.
    keys.set("third", "fourth");
    tokio::time::sleep(Duration::from_millis(600)).await;
    let started = platform.runtime.counts.started();
    let answer = ask(controller, "POST", "rust-x", "bob", &json!({})).await;
    let answer = answer.expect(503);
    assert!(answer.message().contains("cannot be read"), "{answer:?}");
    assert_eq!(platform.runtime.counts.started(), started);
    assert_eq!(keys.command(&platform, "rewrap", "third"), Some(1));
    // Moved to another owner's row it is not read either.
    keys.set("second", "nobody's");
    platform
        .postgres
        .execute("UPDATE meta.secrets SET owner = 'bob'")
        .await;
    register(controller, "bob/rust-x", "bob", &["TOKEN"])
        .await
        .expect(201);
    ask(controller, "POST", "bob/rust-x", "bob", &json!({}))
        .await
        .expect(503);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_there_are_no_secrets_and_functions_work() {
    let platform = Platform::start().await;
    let controller = &platform.controller;
    let refused = put(controller, "TOKEN", "alice", "1").await.expect(503);
    assert!(refused.message().contains("no key for secrets"));
    let refused = register(controller, "rust-x", "alice", &["TOKEN"]).await;
    assert!(refused.expect(503).message().contains("no key for secrets"));
    register(controller, "rust-x", "alice", &[])
        .await
        .expect(201);
    assert_eq!(seen(controller, "rust-x", "bob").await, "the caller's");
}
