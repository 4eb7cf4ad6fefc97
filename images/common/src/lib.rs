//! What the controller and the runtimes share. Both read the same JSON, so that neither takes what the other refuses.

pub mod body;
pub mod configuration;
pub mod connections;
pub mod container;
pub mod error;
pub mod json;
pub mod masked;
pub mod shutdown;
pub mod trace_context;
