//! The executable itself: its start, its logs and its end.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::controller::JSON;
use crate::support::http::{Answer, request, send};
use crate::support::redis::Redis;
use crate::support::runtime::Runtime;
use crate::support::{eventually, free_port};

struct Executable {
    address: SocketAddr,
    child: Child,
    log: Option<JoinHandle<String>>,
}

impl Executable {
    async fn start(redis_url: &str, runtime_url: &str, changes: &[(&str, &str)]) -> Self {
        let port = free_port();
        let mut child = command(redis_url, runtime_url)
            .env("PORT", port.to_string())
            .envs(changes.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        eventually(
            "the controller listens",
            Duration::from_secs(5),
            async || {
                assert!(child.try_wait().unwrap().is_none(), "it ended");
                tokio::net::TcpStream::connect(address).await.is_ok()
            },
        )
        .await;
        // Read all the time: a full pipe would hold up the controller.
        let mut stdout = child.stdout.take().unwrap();
        let log = Some(std::thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).unwrap();
            text
        }));
        Executable {
            address,
            child,
            log,
        }
    }

    async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> Answer {
        send(
            self.address,
            request(method, path, headers, body.to_string()),
        )
        .await
        .unwrap()
    }

    async fn session(&self, script: &str) -> String {
        let headers = [JSON, ("language-title", "python-x")];
        let answer = self
            .call(
                "POST",
                "/api/v1/initialize",
                &headers,
                json!({"script_content": script}),
            )
            .await
            .expect(200);
        answer.json()["request_id"].as_str().unwrap().to_owned()
    }

    async fn execute(&self, id: &str) -> Answer {
        self.call("POST", &format!("/api/v1/execute/{id}"), &[JSON], json!({}))
            .await
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// All that it wrote, once it has ended.
    fn log(&mut self) -> String {
        self.log.take().unwrap().join().unwrap()
    }

    async fn exit_code(&mut self, limit: Duration) -> Option<i32> {
        let mut code = None;
        eventually("the controller ends", limit, async || {
            code = self.child.try_wait().unwrap().map(|status| status.code());
            code.is_some()
        })
        .await;
        code.flatten()
    }
}

impl Drop for Executable {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(redis_url: &str, runtime_url: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lambda-controller"));
    command
        .env_clear()
        .env("HOST", "127.0.0.1")
        .env("METRICS_PORT", free_port().to_string())
        .env("REDIS_URL", redis_url)
        .env("NODEJS_RUNTIME_URL", runtime_url)
        .env("PYTHON_RUNTIME_URL", runtime_url)
        .env("RUST_RUNTIME_URL", runtime_url);
    command
}

#[test]
fn a_wrong_environment_ends_it_with_one_clear_message() {
    let output = command("redis://localhost", "http://localhost")
        .env("PORT", "none")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78));
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        message,
        "lambda-controller cannot start. PORT: found \"none\", expected a TCP port from 1 to 65535\n"
    );
    assert!(output.stdout.is_empty());
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = command("redis://localhost", "http://localhost")
        .env("PORT", &port)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8(output.stdout).unwrap();
    assert!(
        log.contains(&format!("cannot listen on 127.0.0.1:{port} (PORT)")),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn shutting_down_loses_no_request() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let mut controller = Executable::start(
        &redis.url(),
        &runtime.url(),
        &[("SHUTDOWN_DELAY_SECONDS", "1")],
    )
    .await;
    let id = controller.session("echo").await;
    let slow = controller.session("sleep 2500").await;
    let address = controller.address;
    let in_flight = tokio::spawn({
        let path = format!("/api/v1/execute/{slow}");
        async move {
            send(address, request("POST", &path, &[JSON], "{}"))
                .await
                .unwrap()
        }
    });
    eventually("it executes", Duration::from_secs(2), async || {
        runtime.counts.started() == 1
    })
    .await;
    assert!(
        !controller
            .execute(&id)
            .await
            .headers
            .contains_key("connection")
    );
    controller.signal("-TERM");
    eventually(
        "it is not ready any more",
        Duration::from_millis(500),
        async || {
            controller
                .call("GET", "/ready", &[], json!({}))
                .await
                .status
                == 503
        },
    )
    .await;
    // Requests go on being served while the endpoint is removed; their connections are not kept.
    let drained = Instant::now() + Duration::from_millis(500);
    while Instant::now() < drained {
        let answer = controller.execute(&id).await.expect(200);
        assert_eq!(answer.headers["connection"], "close");
    }
    eventually(
        "it takes no more connections",
        Duration::from_secs(2),
        async || tokio::net::TcpStream::connect(address).await.is_err(),
    )
    .await;
    assert!(!in_flight.is_finished());
    in_flight.await.unwrap().expect(200);
    assert_eq!(controller.exit_code(Duration::from_secs(2)).await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_keep_connections_lose_no_request_either() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let delay = [("SHUTDOWN_DELAY_SECONDS", "1")];
    let mut first = Executable::start(&redis.url(), &runtime.url(), &delay).await;
    let second = Executable::start(&redis.url(), &runtime.url(), &delay).await;
    let id = first.session("echo").await;
    // Like the edge: kept connections, new ones only to a replica that is ready.
    let addresses = [first.address, second.address];
    let ready = std::sync::Arc::new(tokio::sync::RwLock::new(addresses.to_vec()));
    let callers: Vec<_> = (0..8)
        .map(|_| tokio::spawn(keep_calling(ready.clone(), format!("/api/v1/execute/{id}"))))
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    first.signal("-TERM");
    tokio::time::sleep(Duration::from_millis(300)).await;
    ready.write().await.remove(0);
    assert_eq!(first.exit_code(Duration::from_secs(4)).await, Some(0));
    let mut answered = 0;
    for caller in callers {
        let (calls, addresses) = caller.await.unwrap();
        assert_eq!(
            addresses.last(),
            Some(&second.address),
            "it moved to the replica that stays"
        );
        answered += calls;
    }
    assert!(answered > 100, "{answered}");
}

/// Calls for 2.5 s on a kept connection, opening another one only after `Connection: close`. Panics at any failure.
async fn keep_calling(
    ready: std::sync::Arc<tokio::sync::RwLock<Vec<SocketAddr>>>,
    path: String,
) -> (usize, Vec<SocketAddr>) {
    let (mut calls, mut addresses) = (0, Vec::new());
    let end = Instant::now() + Duration::from_millis(2500);
    while Instant::now() < end {
        let address = ready.read().await[0];
        addresses.push(address);
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream))
                .await
                .unwrap();
        let driver = tokio::spawn(connection);
        loop {
            let response = sender
                .send_request(request("POST", &path, &[JSON], "{}"))
                .await
                .unwrap();
            assert_eq!(response.status(), 200);
            let closing = response.headers().contains_key("connection");
            http_body_util::BodyExt::collect(response.into_body())
                .await
                .unwrap();
            calls += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
            if closing || Instant::now() >= end {
                break;
            }
            sender.ready().await.unwrap();
        }
        driver.abort();
    }
    (calls, addresses)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let mut controller = Executable::start(
        &redis.url(),
        &runtime.url(),
        &[("SHUTDOWN_DELAY_SECONDS", "60")],
    )
    .await;
    controller.signal("-TERM");
    eventually("it drains", Duration::from_secs(1), async || {
        controller
            .call("GET", "/ready", &[], json!({}))
            .await
            .status
            == 503
    })
    .await;
    controller.signal("-INT");
    assert_eq!(controller.exit_code(Duration::from_secs(1)).await, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_json_and_tell_nothing_of_what_callers_send() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    redis
        .ask::<String>(&["CONFIG", "SET", "requirepass", "hunter2-password"])
        .await
        .unwrap();
    let url = format!("redis://:hunter2-password@127.0.0.1:{}", redis.port);
    let changes = [("LOG_LEVEL", "trace"), ("SHUTDOWN_DELAY_SECONDS", "0")];
    let mut controller = Executable::start(&url, &runtime.url(), &changes).await;
    let headers = [
        JSON,
        ("language-title", "python-x"),
        ("x-user-id", "alice"),
        (
            "traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ),
    ];
    for script in [
        "echo hunter2",
        "status 422 hunter2",
        "status 500 hunter2",
        "raw hunter2",
    ] {
        let body = json!({"script_content": script, "context": "hunter2"});
        let answer = controller
            .call("POST", "/api/v1/initialize", &headers, body)
            .await
            .expect(200);
        let path = format!(
            "/api/v1/execute/{}",
            answer.json()["request_id"].as_str().unwrap()
        );
        controller
            .call("POST", &path, &headers, json!({"params": "hunter2"}))
            .await;
    }
    for body in [
        json!({"script_content": 0, "hunter2": 1}),
        json!("hunter2"),
        json!({"script_content": ["hunter2"]}),
    ] {
        controller
            .call("POST", "/api/v1/initialize", &headers, body)
            .await
            .expect(400);
    }
    controller.signal("-TERM");
    let text = controller.log();
    assert!(!text.contains("hunter2"), "{text}");
    let lines: Vec<Value> = BufReader::new(text.as_bytes())
        .lines()
        .map(|line| serde_json::from_str(&line.unwrap()).expect("every line is JSON"))
        .collect();
    let requests: Vec<_> = lines
        .iter()
        .filter(|line| line["message"] == "request" && line["route"] == "execute")
        .collect();
    let outcomes: Vec<_> = requests
        .iter()
        .map(|line| line["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(
        outcomes,
        ["ok", "RUNTIME_ERROR", "INTERNAL_ERROR", "INTERNAL_ERROR"]
    );
    for line in requests {
        assert_eq!(
            (&line["user"], &line["language"]),
            (&json!("alice"), &json!("python"))
        );
        assert_eq!(line["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
        for id in ["request_id", "session_id"] {
            assert!(uuid::Uuid::try_parse(line[id].as_str().unwrap()).is_ok());
        }
        assert!(
            line["duration_ms"].as_f64().unwrap() > 0.0
                && line["status"].is_u64()
                && line["timestamp"].is_string()
        );
    }
}
