//! Serves. The same executable, called as `lambda-runtime sandbox TOKEN SPEC`, is the step between the supervisor and the
//! interpreter: it gives up what the script must not have, then becomes the interpreter.

use std::process::ExitCode;

use lambda_runtime::{config, log, sandbox, server};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        None => serve(),
        Some(verb) if verb == "sandbox" => sandbox::enter(arguments.next(), arguments.next()),
        Some(verb) => {
            eprintln!(
                "lambda-runtime: unknown argument {verb:?}. Expected: none, the settings are environment variables."
            );
            ExitCode::from(2)
        }
    }
}

fn serve() -> ExitCode {
    log::to_stdout();
    let config = match config::Config::from_environment() {
        Ok(config) => config,
        Err(errors) => {
            for error in errors {
                tracing::error!(%error, "wrong setting");
            }
            return ExitCode::from(2);
        }
    };
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.threads)
        // Blocking work is reading and wiping scratch directories; a thread each for the executions under way suffices.
        .max_blocking_threads(config::BLOCKING_THREADS)
        .enable_all()
        .build();
    let served = tokio.map_err(Into::into).and_then(|tokio| {
        let served = tokio.block_on(server::serve(config));
        tokio.shutdown_timeout(std::time::Duration::from_secs(1));
        served
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the runtime cannot serve");
            ExitCode::FAILURE
        }
    }
}
