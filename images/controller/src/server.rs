//! Listening, serving and ending.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::IntoResponse;
use axum::routing::get;
use lambda_common::connections;
use lambda_common::shutdown::{Lifecycle, Phase};
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout, timeout_at};

use crate::api::{self, Api};
use crate::config::Config;
use crate::database::Database;
use crate::database::records::Records;
use crate::metrics::Metrics;

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
        let metrics_server = tokio::spawn(connections::serve(
            self.metrics,
            connections::http1(),
            metrics_router(metrics.clone()),
            pending(),
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
        let serving = connections::serve(
            self.api,
            connections::http1(),
            api::router(api),
            lifecycle.reached(Phase::Closing),
            grace,
        );
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
