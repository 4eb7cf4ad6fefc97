//! Listening, serving and ending.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tower::ServiceExt;

use crate::api::{self, Api};
use crate::config::Config;
use crate::database::Database;
use crate::database::records::Records;
use crate::metrics::Metrics;
use crate::shutdown::{Lifecycle, Phase};

/// An idle connection is kept longer than Envoy keeps it by default (1 h), so that it is the caller who closes: one
/// that is closed here may just be getting a request.
const LONGEST_IDLE: Duration = Duration::from_secs(65 * 60);

/// For the last rows of the logs, once all requests are done. The pod has 5 s for it.
const LAST_WRITE: Duration = Duration::from_secs(4);

pub struct Server {
    api: TcpListener,
    metrics: TcpListener,
    config: Config,
    shared_metrics: Arc<Metrics>,
    database: Option<Arc<Database>>,
}

impl Server {
    /// Opens both ports. Whoever connects from now on is served once `run` is called.
    pub async fn bind(config: Config) -> io::Result<Server> {
        let listen = async |address: SocketAddr, variable: &str| {
            TcpListener::bind(address).await.map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("cannot listen on {address} ({variable}): {error}"),
                )
            })
        };
        let shared_metrics = Arc::new(Metrics::new());
        let database = config
            .database
            .as_ref()
            .map(|database| Database::new(database, shared_metrics.clone()).map(Arc::new))
            .transpose()
            .map_err(|error| io::Error::other(format!("DATABASE_URL: {error}")))?;
        Ok(Server {
            api: listen(config.api_address, "PORT").await?,
            metrics: listen(config.metrics_address, "METRICS_PORT").await?,
            config,
            shared_metrics,
            database,
        })
    }

    pub fn api_address(&self) -> io::Result<SocketAddr> {
        self.api.local_addr()
    }

    pub fn metrics_address(&self) -> io::Result<SocketAddr> {
        self.metrics.local_addr()
    }

    /// Serves until `lifecycle` closes and the requests in flight are done. False if some had to be cut.
    pub async fn run(self, lifecycle: Lifecycle) -> bool {
        let metrics = self.shared_metrics;
        let grace = self.config.shutdown_grace();
        let draining = metrics.draining.clone();
        let metrics_server = tokio::spawn(serve(
            self.metrics,
            metrics_router(metrics.clone()),
            Lifecycle::new(),
            grace,
        ));
        let (records, writer) = match &self.database {
            Some(database) => {
                let (records, writer) = Records::start(database.clone(), metrics.clone());
                (records, Some(writer))
            }
            None => (Records::nowhere(metrics.clone()), None),
        };
        let api = Arc::new(Api::new(
            self.config,
            metrics,
            lifecycle.clone(),
            self.database,
            records,
        ));
        let drain = lifecycle.clone();
        tokio::spawn(async move {
            drain.reached(Phase::Draining).await;
            draining.set(1);
        });
        let unfinished = api.unfinished.clone();
        let closing = async {
            lifecycle.reached(Phase::Closing).await;
            Instant::now()
        };
        let serving = serve(self.api, api::router(api), lifecycle.clone(), grace);
        let (complete, closing_since) = tokio::join!(serving, closing);
        unfinished.close();
        let finished = timeout_at(closing_since + grace, unfinished.wait()).await;
        if let Some(writer) = writer {
            let _ = timeout(LAST_WRITE, writer).await;
        }
        metrics_server.abort();
        complete && finished.is_ok()
    }
}

fn metrics_router(metrics: Arc<Metrics>) -> Router {
    let openmetrics =
        HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    Router::new().route(
        "/metrics",
        get(move || {
            let answer = (
                [(header::CONTENT_TYPE, openmetrics.clone())],
                metrics.encode(),
            )
                .into_response();
            std::future::ready(answer)
        }),
    )
}

async fn serve(
    listener: TcpListener,
    router: Router,
    lifecycle: Lifecycle,
    grace: Duration,
) -> bool {
    let connections = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(LONGEST_IDLE);
    let closing = lifecycle.reached(Phase::Closing);
    let mut closing = std::pin::pin!(closing);
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
            () = &mut closing => break,
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "connection closed at once");
            continue;
        }
        let service = TowerToHyperService::new(
            router
                .clone()
                .map_request(|request: hyper::Request<_>| request.map(Body::new)),
        );
        let connection = connections.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
        });
    }
    drop(listener);
    timeout(grace, connections.shutdown()).await.is_ok()
}
