//! The supervisor of a language runtime: serves `POST /execute`, and runs each script in a process that is one caller's
//! and cut off from everything else.

pub mod config;
pub mod frame;
pub mod log;
pub mod sandbox;
pub mod scratch;
pub mod server;

mod compile_cache;
mod compiler;
mod deadline;
mod error;
mod execution;
mod fork_server;
mod isolation;
mod language;
mod limits;
mod metrics;
mod output;
mod places;
mod pool;
mod process;
mod random;
mod runtime;
mod watch;
