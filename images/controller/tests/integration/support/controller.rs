//! The controller in this process, on ports of its own.

use std::collections::HashMap;
use std::net::SocketAddr;

use lambda_common::shutdown::Lifecycle;
use lambda_controller::config;
use lambda_controller::server::Server;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::http::{Answer, request, send};
use super::redis::Redis;
use super::runtime::Runtime;

pub struct Controller {
    pub address: SocketAddr,
    pub metrics_address: SocketAddr,
    server: JoinHandle<bool>,
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.server.abort();
    }
}

pub const JSON: (&str, &str) = ("content-type", "application/json");

impl Controller {
    /// One that uses `redis` and `runtime` for all languages.
    pub async fn start(redis: &Redis, runtime: &Runtime) -> Self {
        Controller::start_with(&redis.url(), &runtime.url(), &[]).await
    }

    pub async fn start_with(redis_url: &str, runtime_url: &str, changes: &[(&str, &str)]) -> Self {
        Controller::start_in(Lifecycle::new(), redis_url, runtime_url, changes).await
    }

    /// Whether it ended without cutting requests.
    pub async fn ended(mut self) -> bool {
        (&mut self.server).await.unwrap()
    }

    pub async fn start_in(
        lifecycle: Lifecycle,
        redis_url: &str,
        runtime_url: &str,
        changes: &[(&str, &str)],
    ) -> Self {
        let mut variables: HashMap<&str, &str> = HashMap::from([
            ("HOST", "127.0.0.1"),
            ("REDIS_URL", redis_url),
            ("NODEJS_RUNTIME_URL", runtime_url),
            ("PYTHON_RUNTIME_URL", runtime_url),
            ("RUST_RUNTIME_URL", runtime_url),
        ]);
        variables.extend(changes.iter().copied());
        let mut config =
            config::read(|name| variables.get(name).map(|value| (*value).to_owned())).unwrap();
        config.api_address.set_port(0);
        config.metrics_address.set_port(0);
        let server = Server::bind(config).await.unwrap();
        let (address, metrics_address) = (
            server.api_address().unwrap(),
            server.metrics_address().unwrap(),
        );
        let server = tokio::spawn(server.run(lifecycle));
        Controller {
            address,
            metrics_address,
            server,
        }
    }

    /// One that also has the database at `database_url`.
    pub async fn with_database(redis: &Redis, runtime: &Runtime, database_url: &str) -> Self {
        // Longer than usual: this machine may do other work.
        let database = [
            ("DATABASE_URL", database_url),
            ("DATABASE_POOL_SIZE", "3"),
            ("DATABASE_TIMEOUT_SECONDS", "20"),
        ];
        Controller::start_with(&redis.url(), &runtime.url(), &database).await
    }

    pub async fn register(&self, title: &str, user: &str, script: &str) -> Answer {
        self.call(
            "PUT",
            &format!("/api/v1/functions/{title}"),
            &[JSON, ("x-user-id", user)],
            json!({"script_content": script}).to_string().as_bytes(),
        )
        .await
    }

    pub async fn remove(&self, title: &str, user: &str) -> Answer {
        let path = format!("/api/v1/functions/{title}");
        self.call("DELETE", &path, &[("x-user-id", user)], b"")
            .await
    }

    /// Initializes without a script.
    pub async fn initialize_registered(&self, title: &str) -> Answer {
        let headers = [JSON, ("language-title", title)];
        self.call("POST", "/api/v1/initialize", &headers, b"{}")
            .await
    }

    pub async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        send(self.address, request(method, path, headers, body.to_vec()))
            .await
            .expect("an answer")
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &[], b"").await
    }

    pub async fn initialize(&self, title: &str, script: &str) -> Answer {
        let body = json!({"context": {"from": "context"}, "script_content": script}).to_string();
        self.call(
            "POST",
            "/api/v1/initialize",
            &[JSON, ("language-title", title)],
            body.as_bytes(),
        )
        .await
    }

    /// The id of a new session.
    pub async fn session(&self, title: &str, script: &str) -> String {
        let answer = self.initialize(title, script).await.expect(200);
        answer.json()["request_id"].as_str().unwrap().to_owned()
    }

    /// The id of a new session of a user.
    pub async fn session_of(&self, user: &str, title: &str, script: &str) -> String {
        let headers = [JSON, ("language-title", title), ("x-user-id", user)];
        let body = json!({"script_content": script}).to_string();
        let answer = self
            .call("POST", "/api/v1/initialize", &headers, body.as_bytes())
            .await
            .expect(200);
        answer.json()["request_id"].as_str().unwrap().to_owned()
    }

    pub async fn execute(&self, id: &str, params: Value) -> Answer {
        let body = json!({"params": params}).to_string();
        self.call(
            "POST",
            &format!("/api/v1/execute/{id}"),
            &[JSON],
            body.as_bytes(),
        )
        .await
    }

    /// Executes with `X-Timeout-Seconds: LIMIT`.
    pub async fn execute_within(&self, id: &str, limit: &str) -> Answer {
        let path = format!("/api/v1/execute/{id}");
        self.call("POST", &path, &[JSON, ("x-timeout-seconds", limit)], b"{}")
            .await
    }

    /// The value of the one series that begins with `series`.
    pub async fn metric(&self, series: &str) -> f64 {
        let text = self.metrics().await;
        let line = text.lines().find(|line| line.starts_with(series));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
            .unwrap_or(0.0)
    }

    pub async fn metrics(&self) -> String {
        let stream = tokio::net::TcpStream::connect(self.metrics_address)
            .await
            .unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream))
                .await
                .unwrap();
        tokio::spawn(connection);
        let response = sender
            .send_request(request("GET", "/metrics", &[], ""))
            .await
            .unwrap();
        let body = http_body_util::BodyExt::collect(response.into_body())
            .await
            .unwrap()
            .to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    }
}
