//! Accepts connections, and ends them in order when told to.

use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

/// An idle connection is kept longer than Envoy keeps it by default (1 h), so that it is the caller who closes: one
/// that is closed here may just be getting a request.
const LONGEST_IDLE: Duration = Duration::from_secs(65 * 60);

pub fn http1() -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(LONGEST_IDLE);
    http
}

/// Serves until `stop` is done, then answers what is in flight, for at most `grace`. False if some had to be cut.
pub async fn serve(
    listener: TcpListener,
    http: http1::Builder,
    routes: Router,
    stop: impl Future<Output = ()>,
    grace: Duration,
) -> bool {
    let connections = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, mostly: some will be given back.
                    tracing::error!(%error, "cannot accept a connection");
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = &mut stop => break,
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "connection closed at once");
            continue;
        }
        let service = TowerToHyperService::new(routes.clone());
        let connection = connections.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // What fails here is the caller's side of the connection; dropping it cancels its request.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
        });
    }
    drop(listener);
    timeout(grace, connections.shutdown()).await.is_ok()
}
