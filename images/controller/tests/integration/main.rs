//! The controller as its callers see it, with a real Redis and PostgreSQL (Debian: redis-server, postgresql,
//! pgbouncer) and a runtime made here. Every
//! answer of the API is checked against openapi.yaml on the way.

mod support;

mod backpressure;
mod calls;
mod cancellation;
mod database_failure;
mod exactly_once;
mod executable;
mod functions;
mod fuzz;
mod idempotency;
mod kept;
mod limits;
mod names;
mod openapi;
mod printed;
mod records;
mod redis_failure;
mod schema;
mod secrets;
mod sessions;
