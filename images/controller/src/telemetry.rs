//! Logs: one JSON object a line on standard output.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Of the crates below ours only warnings are of interest: hyper and redis tell each read and write at `trace`.
pub fn log_to_stdout(level: LevelFilter) {
    let ours = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("lambda_common", level)
        .with_target("lambda_controller", level);
    let json = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_filter(ours);
    tracing_subscriber::registry().with(json).init();
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        // Not the message: it may show a value of a caller's.
        tracing::error!(place, "panic");
    }));
}
