use std::process::ExitCode;
use std::{env, process};

use lambda_controller::config::{self, Config};
use lambda_controller::server::Server;
use lambda_controller::shutdown::{Lifecycle, Phase, Signals};
use lambda_controller::telemetry;
use tokio::time::sleep;

/// sysexits.h: something was found in an unconfigured or misconfigured state.
const EX_CONFIG: u8 = 78;

fn main() -> ExitCode {
    let config = match config::read(|name| {
        env::var_os(name).map(|value| value.to_string_lossy().into_owned())
    }) {
        Ok(config) => config,
        Err(errors) => {
            for error in errors {
                eprintln!("lambda-controller cannot start. {error}");
            }
            return ExitCode::from(EX_CONFIG);
        }
    };
    telemetry::log_to_stdout(config.log_level);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(config)) {
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

async fn run(config: Config) -> std::io::Result<bool> {
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
