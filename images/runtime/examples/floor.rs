//! What any server costs: the contract's request and answer, with the benchmark's script built in instead of run in a
//! process of its own. tests/benchmark/executions measures the runtime against it.

use std::future::pending;
use std::time::Duration;

use axum::routing::{get, post};
use axum::{Json, Router};
use lambda_common::connections;
use serde_json::{Value, json};
use tokio::net::TcpListener;

async fn execute(Json(request): Json<Value>) -> Json<Value> {
    let n = request["params"]["n"].as_i64();
    Json(json!({"result": n.map(|n| n + 1)}))
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let routes = Router::new()
        .route("/health", get(async || "ok"))
        .route("/execute", post(execute));
    let listener = TcpListener::bind("0.0.0.0:8080").await?;
    connections::serve(
        listener,
        connections::http1(),
        routes,
        pending(),
        Duration::ZERO,
    )
    .await;
    Ok(())
}
