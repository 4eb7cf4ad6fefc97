pub mod contract;
pub mod controller;
pub mod http;
pub mod postgres;
pub mod redis;
pub mod runtime;

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// For a server that is started later. Below the ports that the kernel gives to connections (32768 and up, ip(7),
/// ip_local_port_range): of these it takes any before the server listens. No other test of this process gets the same.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id() * 7;
    loop {
        let number = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        let port = 10_000 + u16::try_from(number).expect("less than 20,000");
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
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
