//! Bodies that nobody wants any more.

use std::time::Duration;

use axum::body::Body;
use http_body_util::{BodyExt, Limited};
use tokio::time::timeout;

/// Reads a little on: a caller that is still sending when the connection closes gets a reset and never sees why.
pub async fn discard(body: &mut Body, most_bytes: usize, most: Duration) {
    let rest = Limited::new(body, most_bytes);
    let _ = timeout(most, async {
        let mut rest = std::pin::pin!(rest);
        while let Some(Ok(_)) = rest.frame().await {}
    })
    .await;
}
