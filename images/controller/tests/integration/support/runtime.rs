//! A runtime whose answers the script asks for: `echo`, `sleep MILLISECONDS`, `status STATUS MESSAGE`, `raw TEXT`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

pub struct Runtime {
    pub address: SocketAddr,
    pub counts: Arc<Counts>,
    _server: JoinSet<()>,
}

#[derive(Default)]
pub struct Counts {
    pub started: AtomicUsize,
    pub finished: AtomicUsize,
    pub cancelled: AtomicUsize,
    pub last_headers: Mutex<HeaderMap>,
}

impl Counts {
    pub fn started(&self) -> usize {
        self.started.load(Ordering::SeqCst)
    }

    pub fn cancelled(&self) -> usize {
        self.cancelled.load(Ordering::SeqCst)
    }
}

impl Runtime {
    pub async fn start() -> Self {
        Runtime::start_on(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub fn start_on(listener: TcpListener) -> Self {
        let counts = Arc::new(Counts::default());
        let router = Router::new()
            .route("/execute", post(execute))
            .route("/health", get(async || "ok"))
            .with_state(counts.clone());
        let address = listener.local_addr().unwrap();
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Runtime {
            address,
            counts,
            _server: server,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Counts an execution as cancelled if its future is dropped before it is done.
struct Running(Arc<Counts>, bool);

impl Drop for Running {
    fn drop(&mut self) {
        let count = if self.1 {
            &self.0.finished
        } else {
            &self.0.cancelled
        };
        count.fetch_add(1, Ordering::SeqCst);
    }
}

async fn execute(
    State(counts): State<Arc<Counts>>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    counts.started.fetch_add(1, Ordering::SeqCst);
    let logs = (headers.get("x-log-type"))
        .filter(|wanted| *wanted == "tail")
        .map(|_| json!("printed\n"));
    *counts.last_headers.lock().unwrap() = headers;
    let mut running = Running(counts, false);
    let script = body["script_content"]
        .as_str()
        .expect("a script is a string")
        .to_owned();
    let (command, argument) = script.split_once(' ').unwrap_or((&script, ""));
    let result =
        json!({"params": body["params"], "context": body["context"], "id": body["request_id"]});
    let success = |result: Value| {
        let mut body =
            json!({"result": result, "execution_time_ms": 1.5, "memory_usage_bytes": 4096});
        logs.iter().for_each(|logs| body["logs"] = logs.clone());
        Json(body).into_response()
    };
    let answer = match command {
        "sleep" => {
            tokio::time::sleep(Duration::from_millis(argument.parse().unwrap())).await;
            success(json!("slept"))
        }
        "status" => {
            let (status, message) = argument.split_once(' ').unwrap();
            let status = StatusCode::from_u16(status.parse().unwrap()).unwrap();
            let mut body = json!({"error": {"code": "ANY", "message": message}});
            logs.iter().for_each(|logs| body["logs"] = logs.clone());
            (status, [(header::RETRY_AFTER, "7")], Json(body)).into_response()
        }
        "raw" => argument.to_owned().into_response(),
        "large" => success(json!("x".repeat(argument.parse().unwrap()))),
        _ => success(result),
    };
    running.1 = true;
    answer
}
