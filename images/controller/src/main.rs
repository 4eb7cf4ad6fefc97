use std::process::ExitCode;
use std::sync::Arc;
use std::{env, io, process};

use lambda_common::configuration::{ConfigError, variable};
use lambda_common::shutdown::{Lifecycle, Phase, Signals};
use lambda_controller::config::{self, Config, DatabaseConfig, SchemaConfig, SecretsConfig};
use lambda_controller::database::schema::{self, SchemaError};
use lambda_controller::database::secrets::{Rewrapped, SecretStore};
use lambda_controller::database::{Database, DatabaseUnavailable, maintenance};
use lambda_controller::metrics::Metrics;
use lambda_controller::server::Server;
use lambda_controller::telemetry;
use sha2::{Digest, Sha256};
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
        ["has-secrets-key", digest] => has_secrets_key(digest),
        ["rewrap", digest] => rewrap(digest),
        _ => {
            eprintln!(
                "usage: lambda-controller [migrate | maintain | has-secrets-key SHA256 | rewrap SHA256]"
            );
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

/// The configuration where SECRETS_KEY is the key of this SHA-256: a pod that does not have the new one yet says so.
fn with_secrets_key(digest: &str) -> Result<(DatabaseConfig, SecretsConfig), ExitCode> {
    let config = config::read(variable).map_err(misconfigured)?;
    telemetry::log_to_stdout(config.log_level);
    let Some((database, secrets)) = config.database.zip(config.secrets) else {
        return Err(misconfigured(vec![ConfigError {
            variable: "SECRETS_KEY".to_owned(),
            found: "nothing".to_owned(),
            expected: "the key of secrets".to_owned(),
        }]));
    };
    let key = secrets.key.read().unwrap_or_default();
    let found: String = Sha256::digest(&key)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if found != digest {
        tracing::error!("SECRETS_KEY is another key than the one of this SHA-256");
        return Err(ExitCode::FAILURE);
    }
    Ok((database, secrets))
}

fn has_secrets_key(digest: &str) -> ExitCode {
    with_secrets_key(digest).map_or_else(|code| code, |_| ExitCode::SUCCESS)
}

/// Wraps all secrets by SECRETS_KEY, so that SECRETS_KEY_PREVIOUS can be forgotten.
fn rewrap(digest: &str) -> ExitCode {
    let (database, secrets) = match with_secrets_key(digest) {
        Ok(found) => found,
        Err(code) => return code,
    };
    let work = async {
        let database =
            Database::new(&database, Arc::new(Metrics::new())).map_err(io::Error::other)?;
        let rewrapped = SecretStore::new(Arc::new(database), secrets).rewrap().await;
        rewrapped.map_err(|DatabaseUnavailable(cause)| io::Error::other(cause))
    };
    match block_on(work) {
        Ok(Rewrapped {
            wrapped,
            unreadable: 0,
        }) => {
            tracing::info!(wrapped, "every secret is wrapped by SECRETS_KEY");
            ExitCode::SUCCESS
        }
        Ok(Rewrapped {
            wrapped,
            unreadable,
        }) => {
            tracing::error!(
                wrapped,
                unreadable,
                "secrets are wrapped by keys that are neither SECRETS_KEY nor SECRETS_KEY_PREVIOUS"
            );
            ExitCode::FAILURE
        }
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
