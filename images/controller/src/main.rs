use std::process::ExitCode;
use std::{env, io, process};

use lambda_common::configuration::{ConfigError, variable};
use lambda_common::shutdown::{Lifecycle, Phase, Signals};
use lambda_controller::config::{self, Config, SchemaConfig};
use lambda_controller::database::maintenance;
use lambda_controller::database::schema::{self, SchemaError};
use lambda_controller::server::Server;
use lambda_controller::telemetry;
use sqlx::PgConnection;
use tokio::time::sleep;

/// sysexits.h: something was found in an unconfigured or misconfigured state.
const EX_CONFIG: u8 = 78;

/// sysexits.h: the command was used incorrectly.
const EX_USAGE: u8 = 64;

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => serve(),
        ["migrate"] => look_after_schema(migrate),
        ["maintain"] => look_after_schema(maintain),
        _ => {
            eprintln!("usage: lambda-controller [migrate | maintain]");
            ExitCode::from(EX_USAGE)
        }
    }
}

fn misconfigured(errors: Vec<ConfigError>) -> ExitCode {
    for error in errors {
        eprintln!("lambda-controller cannot start. {error}");
    }
    ExitCode::from(EX_CONFIG)
}

fn serve() -> ExitCode {
    let config = match config::read(variable) {
        Ok(config) => config,
        Err(errors) => return misconfigured(errors),
    };
    telemetry::log_to_stdout(config.log_level);
    match block_on(run(config)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            tracing::warn!("requests were cut");
            ExitCode::FAILURE
        }
        Err(error) => {
            tracing::error!(%error, "cannot start");
            ExitCode::FAILURE
        }
    }
}

fn block_on<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

fn look_after_schema<F: Future<Output = Result<(), SchemaError>>>(
    work: impl FnOnce(SchemaConfig) -> F,
) -> ExitCode {
    let config = match config::read_schema(variable) {
        Ok(config) => config,
        Err(errors) => return misconfigured(errors),
    };
    telemetry::log_to_stdout(config.log_level);
    let work = work(config);
    match block_on(async {
        work.await
            .map_err(|SchemaError(cause)| io::Error::other(cause))
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "failed");
            ExitCode::FAILURE
        }
    }
}

async fn migrate(config: SchemaConfig) -> Result<(), SchemaError> {
    let mut connection = schema::connect(&config.database).await?;
    let migrated = schema::migrate(&mut connection, schema::migrations()).await?;
    tracing::info!(applied = ?migrated.applied, "the schema is up to date");
    if !migrated.newer.is_empty() {
        tracing::warn!(newer = ?migrated.newer, "a newer build has migrated this database; it stays as it is");
    }
    // So that there is a place for logs before the first scheduled maintenance.
    maintain_with(&mut connection, &config).await
}

async fn maintain(config: SchemaConfig) -> Result<(), SchemaError> {
    let mut connection = schema::connect(&config.database).await?;
    maintain_with(&mut connection, &config).await
}

async fn maintain_with(
    connection: &mut PgConnection,
    config: &SchemaConfig,
) -> Result<(), SchemaError> {
    let maintained = maintenance::maintain(connection, config.log_retention_days).await?;
    tracing::info!(
        partitions_made = ?maintained.made,
        partitions_dropped = ?maintained.dropped,
        sessions_removed = maintained.sessions_removed,
        names_released = maintained.names_released,
        "maintained"
    );
    Ok(())
}

async fn run(config: Config) -> io::Result<bool> {
    let mut signals = Signals::listen()?;
    let delay = config.shutdown_delay;
    let server = Server::bind(config).await?;
    let (api, metrics) = (server.api_address()?, server.metrics_address()?);
    tracing::info!(%api, %metrics, version = env!("CARGO_PKG_VERSION"), "listening");
    let lifecycle = Lifecycle::new();
    let phases = lifecycle.clone();
    tokio::spawn(async move {
        let signal = signals.next().await;
        tracing::info!(signal, delay_seconds = delay.as_secs(), "draining");
        phases.enter(Phase::Draining);
        tokio::select! {
            () = sleep(delay) => {}
            signal = signals.next() => exit_at_once(signal),
        }
        tracing::info!("closing");
        phases.enter(Phase::Closing);
        exit_at_once(signals.next().await)
    });
    Ok(server.run(lifecycle).await)
}

fn exit_at_once(signal: &str) -> ! {
    tracing::warn!(signal, "a second signal: ending at once");
    process::exit(1)
}
