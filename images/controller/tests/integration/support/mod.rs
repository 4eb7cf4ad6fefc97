pub mod contract;
pub mod controller;
pub mod http;
pub mod postgres;
pub mod redis;
pub mod runtime;

use std::net::TcpListener;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// A port that is free now. Nothing else here asks for ports fast enough to take it before its user does.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    listener.local_addr().unwrap().port()
}

/// Waits until `condition` holds; fails, naming it, after `limit`.
pub async fn eventually(what: &str, limit: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition().await {
        assert!(
            Instant::now() < deadline,
            "within {limit:?} it did not come true that {what}"
        );
        sleep(Duration::from_millis(20)).await;
    }
}
