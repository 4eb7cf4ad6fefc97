//! The reference controller of the platform: it keeps the sessions that callers initialize and has their scripts
//! executed by the runtime of their language.

pub mod account;
pub mod api;
mod bodies;
pub mod config;
pub mod database;
pub mod envelope;
pub mod error;
pub mod language;
mod leases;
pub mod metrics;
pub mod redis_master;
pub mod runtime_client;
pub mod secret;
pub mod server;
pub mod session;
pub mod store;
pub mod telemetry;
